import { customSection } from '../../../plugins/abi/module-file.ts'
import { parseManifest } from '../../../plugins/host/manifest.ts'
import { manifestSection } from '../../../plugins/host/module-sections.ts'
import type { PolicyHost } from '../../../plugins/host/policy-host.ts'
import { StorageError } from '../../contract/errors.ts'
import type { PolicyManifest } from '../../contract/policy-deployment.ts'
import type { QosExplanation } from '../../contract/qos.ts'
import type { PolicyBackend } from '../../control/policy-backend.ts'
import type { ExplainedRequestMessage } from '../../control/policy-messages.ts'
import type { BuiltinModule, CatalogPolicyStore } from './catalog-policy-store.ts'
import type { NodePoliciesParts } from './node-policies.ts'

export interface PolicyAdminParts extends NodePoliciesParts {
  readonly host: PolicyHost
  readonly store: CatalogPolicyStore
  readonly builtin: readonly BuiltinModule[]
  readonly isSignatureRequired: boolean
}

/** Activations that may wait for their turn; more are refused. */
const waitingMost = 64
/** Manifests remembered: more than a region keeps packages. */
const manifestsMost = 256

/** The admin service's view of the policies of this node. */
export function createPolicyAdmin(parts: PolicyAdminParts): PolicyBackend {
  const { host, store, builtin, catalog, qos, config, environment } = parts
  const { clock } = environment
  const manifests = new Map<string, PolicyManifest | undefined>()
  const inTurn = createTurns()

  return {
    async push(content, withConfig) {
      const inspection = await host.push(content, { config: withConfig })
      parts.log.info(
        { policy: nameOf(inspection.manifest), digest: inspection.digest },
        'a policy was pushed',
      )
      return inspection
    },
    activate: ({ name, digest, ...request }) =>
      inTurn(async () => {
        const whole = digest === '' ? newestOf(name) : wholeDigest(digest)
        const deployment = await host.activate({ name, digest: whole, ...request })
        parts.log.info({ policy: name, digest: whole, epoch: deployment.epoch }, 'a policy was activated')
        return deployment
      }),
    // Not in turn: taking something back does not wait behind what is still to come.
    async rollback(name, digest) {
      const deployment = await host.rollback(name, digest === '' ? undefined : wholeDigest(digest))
      parts.log.info({ policy: name, epoch: deployment.epoch }, 'a policy was rolled back')
      return deployment
    },
    async deactivate(name) {
      const deployment = await host.deactivate(name)
      parts.log.info({ policy: name, epoch: deployment.epoch }, 'a policy was taken out')
      return deployment
    },
    status() {
      const { epoch, policies, quarantine, unavailable } = host.status()
      return {
        node: parts.node,
        epoch,
        deployedEpoch: catalog.policyDeployment().epoch,
        policies,
        quarantine,
        unavailable: unavailable ?? '',
        signatureRequired: parts.isSignatureRequired,
      }
    },
    list: () => ({ deployment: store.deployment(), packages: packages() }),
    explainRequest(requestId) {
      const found = qos.inspection.explain(requestId)
      return found === undefined ? undefined : withWords(found)
    },
    recentRequests: (count) => qos.inspection.recent(count).map(withWords),
    explainHook: (hook) =>
      host.explain(hook).map(({ input, decision, reasonText, digest, ...rest }) => ({
        ...rest,
        digest: digest ?? '',
        reasonText: reasonText ?? '',
        input: JSON.stringify(input) ?? '',
        decision: JSON.stringify(decision) ?? '',
      })),
    trace: () => host.traceLines(),
  }

  function packages() {
    const pushed = catalog.policyPackages()
    const inRegion = new Set(pushed.map(({ digest }) => digest))
    const own = builtin.filter(({ digest }) => !inRegion.has(digest))
    return [
      ...pushed.toSorted((one, other) => other.position - one.position),
      ...own.map(({ digest, wasm }) => ({ digest, byteLength: wasm.length, pushedMs: 0, signedBy: '' })),
    ].map(({ digest, byteLength, pushedMs, signedBy = '' }) => {
      const { name = '', version = '' } = manifestOf(digest) ?? {}
      const isBuiltin = builtin.some((module) => module.digest === digest)
      return { digest, byteLength, pushedMs, signedBy, name, version, builtin: isBuiltin }
    })
  }

  function newestOf(name: string): string {
    const newest = packages().find((each) => each.name === name)
    if (newest !== undefined) return newest.digest
    throw new StorageError('POLICY_NOT_FOUND', `no package of a policy called ${name} was pushed`)
  }

  function wholeDigest(digest: string): string {
    if (digest.length === 64) return digest
    const matching = packages().filter((each) => each.digest.startsWith(digest))
    const [found, other] = matching
    if (found === undefined) {
      throw new StorageError('POLICY_NOT_FOUND', `no package has a digest that begins with ${digest}`)
    }
    if (other === undefined) return found.digest
    throw new StorageError(
      'INVALID_ARGUMENT',
      `${matching.length} packages have a digest that begins with ${digest}: give more digits`,
    )
  }

  function manifestOf(digest: string): PolicyManifest | undefined {
    if (manifests.has(digest)) return manifests.get(digest)
    const wasm = (catalog.policyPackage(digest) ?? builtin.find((module) => module.digest === digest))?.wasm
    const manifest = wasm === undefined ? undefined : readManifest(wasm)
    if (manifests.size >= manifestsMost) manifests.clear()
    manifests.set(digest, manifest)
    return manifest
  }

  /** The manifest's words for a reason of `name@version`, where that version is known here. */
  function wordsFor(origin: string, reason: number): string {
    const found = host.status().policies.find(({ name, version }) => `${name}@${version}` === origin)
    return found === undefined ? '' : (manifestOf(found.digest)?.reasons[reason] ?? '')
  }

  function withWords(explanation: QosExplanation): ExplainedRequestMessage {
    const { bucket = '', classifiedBy, classifyReason, admittedBy, admitReason } = explanation
    return {
      ...explanation,
      bucket,
      classifyReasonText: wordsFor(classifiedBy, classifyReason),
      admitReasonText: wordsFor(admittedBy, admitReason),
    }
  }

  /** One after the other, with the configured time between them. */
  function createTurns() {
    let waiting = 0
    let last: Promise<unknown> = Promise.resolve()
    let endedMs = Number.NEGATIVE_INFINITY
    return <T>(run: () => Promise<T>): Promise<T> => {
      if (waiting >= waitingMost) {
        return Promise.reject(new StorageError('OVERLOADED', 'too many activations wait for their turn'))
      }
      waiting++
      const turn = last.then(async () => {
        const pauseMs = endedMs + config.reloadInterval - clock.monotonic()
        if (pauseMs > 0) await clock.sleep(pauseMs)
        try {
          return await run()
        } finally {
          endedMs = clock.monotonic()
          waiting--
        }
      })
      last = turn.catch(() => undefined)
      return turn
    }
  }
}

/** What a node answers that runs no policies. */
export function turnedOffAdmin({ node, qos, catalog }: NodePoliciesParts, why: string): PolicyBackend {
  const refuse = () => Promise.reject(new StorageError('UNAVAILABLE', why))
  const plain = (explanation: QosExplanation): ExplainedRequestMessage => ({
    ...explanation,
    bucket: explanation.bucket ?? '',
    classifyReasonText: '',
    admitReasonText: '',
  })
  return {
    push: refuse,
    activate: refuse,
    rollback: refuse,
    deactivate: refuse,
    status: () => ({
      node,
      epoch: 0,
      deployedEpoch: catalog.policyDeployment().epoch,
      policies: [],
      quarantine: [],
      unavailable: why,
      signatureRequired: false,
    }),
    list: () => ({ deployment: catalog.policyDeployment(), packages: [] }),
    explainRequest(requestId) {
      const found = qos.inspection.explain(requestId)
      return found === undefined ? undefined : plain(found)
    },
    recentRequests: (count) => qos.inspection.recent(count).map(plain),
    explainHook: () => [],
    trace: () => '',
  }
}

function readManifest(wasm: Uint8Array): PolicyManifest | undefined {
  try {
    return parseManifest(customSection(wasm, manifestSection))
  } catch {
    // Pushed by a version that accepted more; its digest says what it is.
    return undefined
  }
}

const nameOf = (manifest: PolicyManifest | undefined): string =>
  manifest === undefined ? '' : `${manifest.name}@${manifest.version}`
