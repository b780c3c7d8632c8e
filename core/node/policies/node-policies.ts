import type { EmbeddedCatalog } from '../../catalog/catalog.ts'
import type { Environment } from '../../contract/clock.ts'
import { StorageError } from '../../contract/errors.ts'
import type { Logger } from '../../contract/logger.ts'
import type { PolicyDecisions } from '../../contract/policy.ts'
import type { PolicyBackend } from '../../control/policy-backend.ts'
import type { Qos } from '../../qos/open-qos.ts'
import type { Registry } from '../../telemetry/metrics.ts'
import { registerPolicyMetrics } from '../../telemetry/policy-metrics.ts'
import type { PoliciesConfig } from '../config/policies-schema.ts'
import { type BuiltinModule, CatalogPolicyStore } from './catalog-policy-store.ts'
import { LatencyGuard } from './latency-guard.ts'
import { createPolicyAdmin, turnedOffAdmin } from './policy-admin.ts'
import { createPathFallbacks } from './policy-fallbacks.ts'
import { watchModules } from './watch-modules.ts'

export interface NodePoliciesParts {
  readonly config: PoliciesConfig
  /** Name of this node. */
  readonly node: string
  readonly catalog: EmbeddedCatalog
  readonly qos: Qos
  /** The latency (p99) that a class aims at; 0 = none. */
  classTargetMs(className: string): number
  readonly environment: Environment
  readonly log: Logger
  readonly registry: Registry
}

export interface NodePolicies {
  /** For the parts that decide by policies. */
  readonly decisions: PolicyDecisions
  /** For the admin service. */
  readonly backend: PolicyBackend
  /** What a policy calls a reason of its decisions; undefined when it has no words for it, or is gone. */
  reasonText(policy: string, reason: number): string | undefined
  /** The fallbacks decide from here on. */
  close(): Promise<void>
}

/**
 * Starts the policies of the region on this node: what is deployed is loaded, followed, and asked from here on. Nothing about
 * policies keeps a node from starting: whatever fails is logged, and the fallbacks decide.
 */
export async function openNodePolicies(parts: NodePoliciesParts): Promise<NodePolicies> {
  const { config, qos, log } = parts
  const fallbacks = { ...qos.fallback, ...createPathFallbacks() }
  const without = (why: string): NodePolicies => ({
    decisions: fallbacks,
    backend: turnedOffAdmin(parts, why),
    reasonText: () => undefined,
    close: async () => undefined,
  })
  if (!config.enabled) return without('policies are turned off on this node (policies.enabled)')
  try {
    return await open(parts, fallbacks)
  } catch (error) {
    const { reason } = StorageError.from(error)
    log.error({ err: error }, 'policies cannot run on this node: the built-in rules decide')
    return without(`policies cannot run on this node: ${reason}`)
  }
}

async function open(parts: NodePoliciesParts, fallbacks: PolicyDecisions): Promise<NodePolicies> {
  const { config, catalog, qos, environment, log } = parts
  const { clock } = environment
  const [{ PolicyHost }, builtin] = await Promise.all([
    import('../../../plugins/host/policy-host.ts'),
    readBuiltinModules(config.builtin, log),
  ])
  const store = new CatalogPolicyStore({ catalog, builtin, startedMs: clock.now() })
  const isSignatureRequired =
    config.signatures === 'required' || (config.signatures === 'auto' && config.keys.length > 0)
  const guard = new LatencyGuard(() => qos.inspection.status().classes, parts.classTargetMs)
  const stopGuard = store.subscribe(() => guard.remember())
  // Before they start: nobody would tell them later of names that come meanwhile.
  let tables = qos.tables()
  let learn = (newest: typeof tables): void => {
    tables = newest
  }
  const stopTables = qos.onTables((newest) => learn(newest))
  const opened = tables
  const host = await PolicyHost.open({
    store,
    clock,
    logger: log,
    trust: {
      keys: config.keys,
      allowUnsigned: !isSignatureRequired,
      builtin: new Set(builtin.map(({ digest }) => digest)),
    },
    fallbacks,
    tables: opened,
    adoptTables: (known) => qos.adoptTables(known),
    sloGuard: () => guard.missed(),
  }).catch((error: unknown) => {
    stopGuard()
    stopTables()
    throw error
  })
  qos.decideBy(host.decisions)
  // Until they are initialised anew they go on with the indexes of the names that they know.
  learn = (newest) => {
    host
      .setTables(newest)
      .catch((error: unknown) => log.error({ err: error }, 'policies keep the names they had'))
  }
  if (tables !== opened) learn(tables)
  registerPolicyMetrics(
    parts.registry,
    () => host.status(),
    () => host.fallbackCalls(),
  )
  const backend = createPolicyAdmin({ ...parts, host, store, builtin, isSignatureRequired })
  const { watch } = config
  const watching =
    watch === ''
      ? undefined
      : await watchModules({ directory: watch, clock, log, backend }).catch((error: unknown) => {
          log.error({ err: error }, 'the directory of policies is not watched')
          return undefined
        })
  for (const { name, version, digest, failure } of host.status().policies) {
    if (failure === undefined) log.debug({ policy: `${name}@${version}`, digest }, 'a policy serves')
  }
  return {
    decisions: host.decisions,
    backend,
    reasonText: (policy, reason) => host.reasonText(policy, reason),
    async close() {
      await watching?.close()
      stopGuard()
      stopTables()
      qos.decideBy(qos.fallback)
      await host.close()
    },
  }
}

/** Those that the set-up has built; a missing one is told once, its fallback decides. */
async function readBuiltinModules(
  names: PoliciesConfig['builtin'],
  log: Logger,
): Promise<readonly BuiltinModule[]> {
  const [{ readBuiltinPolicy }, { digestOf }] = await Promise.all([
    import('../../../plugins/builtin/builtin-policies.ts'),
    import('../../../plugins/host/trust.ts'),
  ])
  const modules: BuiltinModule[] = []
  const missing: string[] = []
  for (const name of names) {
    const wasm = await readBuiltinPolicy(name)
    if (wasm === undefined) missing.push(name)
    else modules.push({ name, wasm, digest: digestOf(wasm) })
  }
  if (missing.length > 0) {
    log.warn({ missing }, 'built-in policies are not built here (npm run build): the built-in rules decide')
  }
  return modules
}
