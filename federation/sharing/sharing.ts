import type { Clock } from '../../core/contract/clock.ts'
import { StorageError } from '../../core/contract/errors.ts'
import type { FederationRecord } from '../../core/contract/federation.ts'
import type { Logger } from '../../core/contract/logger.ts'
import {
  type Acceptance,
  type PublicationStatus,
  type PublishRequest,
  type RegionHealth,
  type SharedRegion,
  type SharingAdministration,
  type SharingStatus,
  sharingLimits,
} from '../../core/contract/sharing.ts'
import type { RegionTunnels } from '../../core/contract/tunnel.ts'
import type { RegionIdentityStore } from '../identity/region-identity.ts'
import type { KeyStore, PolicyPort } from './ports.ts'
import { withAcceptance, withoutPublication, withPublication, withTaken } from './record.ts'
import {
  askRegion,
  keysAnswer,
  policyAnswer,
  type Report,
  reportAnswer,
  type SharingAnswer,
  type SharingQuestion,
  serveSharing,
} from './wire.ts'

export interface SharingParts {
  readonly regionId: number
  readonly tunnels: Pick<RegionTunnels, 'connected' | 'open' | 'serve'>
  readonly identity: Pick<RegionIdentityStore, 'record' | 'change'>
  /** Absent: a witness, which has neither. */
  readonly keys?: KeyStore
  readonly policies?: PolicyPort
  health(): Promise<RegionHealth>
  /** Whether this node of the region takes what others offer. */
  isCoordinator(): boolean
  readonly clock: Clock
  readonly log: Logger
}

/** So often is looked whether something is to be told; it is told at once when it changed, and otherwise every `everyMs`. */
const lookMs = 500
const everyMs = 5_000
const answerMs = 5_000
/** Looking through all keys takes at most this share of the time. */
const leastRest = 50
const mostRetryMs = 60_000

interface Heard {
  readonly report: Report
  readonly atMs: number
}

/** What keeps a region from having our keys as they are. */
interface Lack {
  readonly digest: string
  readonly sinceMs: number
}

/**
 * Tells joined regions how this one is, and hears the same of them; takes access keys and policies of those whose operator's word is
 * accepted here. What is offered is a state, not a list of changes: whoever was cut off asks for it again.
 */
export class Sharing implements SharingAdministration {
  readonly #parts: SharingParts
  readonly #heard = new Map<number, Heard>()
  readonly #told = new Map<number, { readonly what: string; readonly atMs: number }>()
  readonly #lacks = new Map<number, Lack>()
  /** Digest of the keys that are taken, with the epoch of the record under which that was. */
  readonly #taken = new Map<number, { readonly digest: string; readonly epoch: number }>()
  readonly #keysProblems = new Map<number, string>()
  readonly #retries = new Map<string, { readonly nextMs: number; readonly delayMs: number }>()
  readonly #busy = new Map<string, Promise<void>>()
  readonly #stopping = new AbortController()
  readonly #stopServing: () => void
  readonly #running: Promise<void>
  #given: ReturnType<KeyStore['given']> = new Map()
  #nextLookMs = 0

  constructor(parts: SharingParts) {
    this.#parts = parts
    this.#stopServing = serveSharing(
      parts.tunnels,
      (from, question) => this.answer(from, question),
      parts.log,
    )
    this.#running = this.#run()
  }

  async stop(): Promise<void> {
    this.#stopServing()
    this.#stopping.abort(new StorageError('CANCELLED', 'sharing stops'))
    await this.#running
    await Promise.allSettled(this.#busy.values())
  }

  // What an operator asks.

  status(): SharingStatus {
    const record = this.#parts.identity.record()
    return {
      regions: record.peers.map((peer) => this.#regionStatus(peer)),
      publications: (record.publications ?? []).flatMap((publication) =>
        publication.regions.map((region) => this.#publicationStatus(publication, region)),
      ),
    }
  }

  async accept(regionId: number, accepts: readonly Acceptance[]): Promise<SharingStatus> {
    await this.#parts.identity.change((record) => withAcceptance(record, regionId, accepts))
    return this.status()
  }

  async shareKey(accessKeyId: string, regions: readonly number[]): Promise<void> {
    await this.#keys().share(accessKeyId, regions)
    this.#nextLookMs = 0
  }

  async publish(request: PublishRequest): Promise<SharingStatus> {
    if ((await this.#parts.policies?.package(request.digest)) === undefined) {
      throw new StorageError('POLICY_NOT_FOUND', `no package has the digest ${request.digest.slice(0, 12)}`)
    }
    await this.#parts.identity.change((record) => withPublication(record, request, this.#parts.clock.now()))
    return this.status()
  }

  async withdraw(name: string): Promise<SharingStatus> {
    await this.#parts.identity.change((record) => withoutPublication(record, name))
    return this.status()
  }

  #keys(): KeyStore {
    const { keys } = this.#parts
    if (keys === undefined) throw new StorageError('NOT_IMPLEMENTED', 'a witness has no access keys')
    return keys
  }

  // What is told.

  #regionStatus({ regionId, name, accepts = [] }: FederationRecord['peers'][number]): SharedRegion {
    const { tunnels, clock, keys } = this.#parts
    const heard = this.#heard.get(regionId)
    const lack = this.#lacks.get(regionId)
    const keysGiven = this.#given.get(regionId)?.count ?? 0
    // A region of several nodes may be heard by one that does not follow our keys: that says nothing of them. Nor is a
    // region that was given keys before this process began rid of them because it is given none now.
    const isUnknown = keys !== undefined && heard?.report.keysKnown === undefined
    return {
      ...{ regionId, name, accepts, keysGiven },
      isConnected: tunnels.connected().includes(regionId),
      heardMs: heard === undefined ? -1 : clock.monotonic() - heard.atMs,
      ...(heard === undefined ? {} : { health: heard.report.health }),
      isAccepting: heard?.report.accepts ?? [],
      keysLagMs: lack !== undefined ? clock.monotonic() - lack.sinceMs : isUnknown ? -1 : 0,
      keysTaken: keys?.takenOf(regionId) ?? 0,
      keysProblem: this.#keysProblems.get(regionId) ?? '',
    }
  }

  #publicationStatus(
    { name, digest, revision }: NonNullable<FederationRecord['publications']>[number],
    regionId: number,
  ): PublicationStatus {
    const report = this.#heard.get(regionId)?.report
    const taken = report?.taken.find((one) => one.name === name)
    const place = { name, digest, regionId, serves: taken?.serves ?? [] }
    if (taken?.revision === revision) return { ...place, state: taken.outcome, reason: taken.reason }
    if (!this.#parts.tunnels.connected().includes(regionId)) {
      return {
        ...place,
        state: 'unreachable',
        reason: 'there is no tunnel: it is offered again when it is back',
      }
    }
    if (report !== undefined && !report.accepts.includes('policies')) {
      return { ...place, state: 'refused', reason: 'it takes no policies of this region' }
    }
    return { ...place, state: 'pending', reason: '' }
  }

  async #reportFor(region: number): Promise<Report> {
    const { identity, policies, isCoordinator } = this.#parts
    const health = await this.#parts.health()
    const record = identity.record()
    const peer = record.peers.find(({ regionId }) => regionId === region)
    const digest = this.#taken.get(region)?.digest ?? ''
    return {
      health: {
        ...health,
        problems: health.problems
          .slice(0, sharingLimits.problems)
          .map((text) => text.slice(0, sharingLimits.problemChars)),
        groups: health.groups.slice(0, sharingLimits.groups),
      },
      accepts: [...(peer?.accepts ?? [])],
      ...(isCoordinator() ? { keysKnown: digest } : {}),
      taken: (peer?.taken ?? []).map((one) => ({ ...one, serves: [...(policies?.serves(one.name) ?? [])] })),
      keysGiven: this.#given.get(region)?.digest ?? '',
      publications: (record.publications ?? [])
        .filter(({ regions }) => regions.includes(region))
        .map(({ name, digest: offered, revision }) => ({ name, digest: offered, revision })),
    }
  }

  /** For another region; `from` has proved to be it. */
  async answer(from: number, question: SharingQuestion): Promise<SharingAnswer> {
    const { identity, keys, policies } = this.#parts
    switch (question.kind) {
      case 'report':
        this.#hear(from, question.report)
        return { value: { report: await this.#reportFor(from) } }
      case 'keys':
        return { value: (await keys?.for(from)) ?? { digest: '', keys: [] } }
      case 'policy': {
        const offered = identity
          .record()
          .publications?.find(({ name, regions }) => name === question.name && regions.includes(from))
        const content = offered && (await policies?.package(offered.digest))
        if (offered?.revision !== question.revision || content === undefined) {
          throw new StorageError('POLICY_NOT_FOUND', `${question.name} is not offered, or not any more`)
        }
        const { digest, config, activate, gradual } = offered
        const { wasm, signature } = content
        return {
          value: {
            ...{ digest, config, activate },
            ...(gradual === undefined ? {} : { gradual }),
            ...(signature === undefined ? {} : { signature }),
          },
          module: wasm,
        }
      }
    }
  }

  // What is done all the time.

  async #run(): Promise<void> {
    const { clock, log } = this.#parts
    const { signal } = this.#stopping
    while (!signal.aborted) {
      try {
        this.#look()
        this.#turn()
      } catch (reason) {
        log.warn({ err: StorageError.from(reason) }, 'what is shared with other regions cannot be read')
      }
      await clock.sleep(lookMs, signal).catch(() => undefined)
    }
  }

  /** Which keys others are to know, and who lacks a change of them. */
  #look(): void {
    const { keys, clock, identity } = this.#parts
    const nowMs = clock.monotonic()
    if (keys !== undefined && nowMs >= this.#nextLookMs) {
      this.#given = keys.given()
      this.#nextLookMs = nowMs + Math.max(lookMs / 2, (clock.monotonic() - nowMs) * leastRest)
    }
    for (const { regionId } of identity.record().peers) this.#compareKeys(regionId)
  }

  #compareKeys(region: number): void {
    const known = this.#heard.get(region)?.report.keysKnown
    const digest = this.#given.get(region)?.digest ?? ''
    if (known === undefined || known === digest) this.#lacks.delete(region)
    else if (!this.#lacks.has(region)) {
      this.#lacks.set(region, { digest, sinceMs: this.#parts.clock.monotonic() })
    }
  }

  #turn(): void {
    const { identity, tunnels, clock } = this.#parts
    const { epoch, peers } = identity.record()
    const connected = tunnels.connected()
    for (const region of this.#heard.keys()) {
      if (peers.some(({ regionId }) => regionId === region)) continue
      for (const map of [this.#heard, this.#told, this.#lacks, this.#taken, this.#keysProblems])
        map.delete(region)
    }
    for (const { regionId } of peers) {
      if (!connected.includes(regionId)) {
        // Who was away is told at once when it is back.
        this.#told.delete(regionId)
        continue
      }
      const what = `${epoch} ${this.#given.get(regionId)?.digest ?? ''} ${this.#taken.get(regionId)?.digest ?? ''}`
      const told = this.#told.get(regionId)
      if (told?.what === what && clock.monotonic() - told.atMs < everyMs) continue
      this.#once(`tell ${regionId}`, async () => {
        const report = await this.#reportFor(regionId)
        const { value } = await this.#ask(regionId, { kind: 'report', report }, reportAnswer)
        this.#told.set(regionId, { what, atMs: clock.monotonic() })
        this.#hear(regionId, value.report)
      })
    }
  }

  #ask<S extends Parameters<typeof askRegion>[4]>(region: number, question: SharingQuestion, schema: S) {
    const { tunnels, clock } = this.#parts
    return askRegion(tunnels, clock, region, question, schema, answerMs)
  }

  /** One of a kind at a time; what fails is tried again with the next turn. */
  #once(name: string, work: () => Promise<void>): void {
    if (this.#busy.has(name) || this.#stopping.signal.aborted) return
    const running = work()
      .catch((reason: unknown) => {
        this.#parts.log.debug({ err: StorageError.from(reason), work: name }, 'another region was not asked')
      })
      .finally(() => this.#busy.delete(name))
    this.#busy.set(name, running)
  }

  #hear(region: number, report: Report): void {
    const { identity, clock, isCoordinator } = this.#parts
    const record = identity.record()
    const peer = record.peers.find(({ regionId }) => regionId === region)
    if (peer === undefined) return
    const before = this.#heard.get(region)?.report.keysKnown
    const keysKnown = report.keysKnown ?? before
    this.#heard.set(region, {
      report: keysKnown === undefined ? report : { ...report, keysKnown },
      atMs: clock.monotonic(),
    })
    this.#compareKeys(region)
    if (!isCoordinator()) return
    this.#followKeys(region, peer, record.epoch, report.keysGiven)
    this.#followPolicies(region, peer, report.publications)
  }

  #followKeys(
    region: number,
    { accepts }: FederationRecord['peers'][number],
    epoch: number,
    offered: string,
  ): void {
    const { keys, log } = this.#parts
    if (keys === undefined || accepts?.includes('keys') !== true) {
      this.#taken.delete(region)
      this.#keysProblems.delete(region)
      return
    }
    const taken = this.#taken.get(region)
    if (taken?.digest === offered && taken.epoch === epoch) return
    this.#once(`keys ${region}`, async () => {
      try {
        const { value } = await this.#ask(region, { kind: 'keys' }, keysAnswer)
        const { refused } = await keys.take(region, value.keys)
        this.#taken.set(region, { digest: value.digest, epoch })
        const problem =
          refused.length === 0 ? '' : `access keys of others here: ${refused.join(', ').slice(0, 200)}`
        this.#keysProblems.set(region, problem)
        log.info({ region, keys: value.keys.length, refused }, 'access keys of another region are known')
      } catch (reason) {
        this.#keysProblems.set(region, StorageError.from(reason).reason.slice(0, 300))
        throw reason
      }
    })
  }

  #followPolicies(
    region: number,
    { accepts, taken = [] }: FederationRecord['peers'][number],
    offered: Report['publications'],
  ): void {
    if (this.#parts.policies === undefined || accepts?.includes('policies') !== true) return
    const nowMs = this.#parts.clock.monotonic()
    const works = new Set(offered.map(({ name }) => `policy ${region} ${name}`))
    // What is offered no more is not remembered: a region could think of names without end.
    for (const work of this.#retries.keys())
      if (work.startsWith(`policy ${region} `) && !works.has(work)) this.#retries.delete(work)
    for (const { name, revision } of offered) {
      const known = taken.find((one) => one.name === name)
      if (known !== undefined && known.revision >= revision) continue
      const work = `policy ${region} ${name}`
      if ((this.#retries.get(work)?.nextMs ?? 0) > nowMs) continue
      const asked = [...this.#busy.keys()].filter((one) => one.startsWith(`policy ${region} `))
      if (asked.length >= sharingLimits.publications) break
      this.#once(work, () => this.#takePolicy(work, region, name, revision))
    }
  }

  /** What cannot be had now is tried again; what is no good is refused once, and stays so until another one is offered. */
  async #takePolicy(work: string, region: number, name: string, revision: number): Promise<void> {
    const { policies, identity, clock, log } = this.#parts
    if (policies === undefined) return
    let digest = ''
    let refusal = ''
    try {
      const { value, module } = await this.#ask(region, { kind: 'policy', name, revision }, policyAnswer)
      digest = value.digest
      if (module === undefined) throw new StorageError('PROTOCOL_ERROR', 'a policy came without its module')
      const { signature, gradual, config, activate } = value
      // Its operator may have changed their mind while it was on its way.
      const peer = identity.record().peers.find(({ regionId }) => regionId === region)
      if (peer?.accepts?.includes('policies') !== true) return
      await policies.take(
        { ...{ name, digest, config, activate, revision }, ...(gradual === undefined ? {} : { gradual }) },
        { wasm: module, ...(signature === undefined ? {} : { signature }) },
      )
    } catch (reason) {
      const error = StorageError.from(reason)
      if (digest === '' || error.retryable || error.code === 'CANCELLED') {
        const delayMs = Math.min((this.#retries.get(work)?.delayMs ?? everyMs / 2) * 2, mostRetryMs)
        this.#retries.set(work, { nextMs: clock.monotonic() + delayMs, delayMs })
        throw error
      }
      refusal = error.reason.slice(0, sharingLimits.reasonChars) || error.code
    }
    this.#retries.delete(work)
    const outcome = refusal === '' ? 'accepted' : 'refused'
    await identity.change((record) =>
      withTaken(record, region, {
        ...{ name, digest, revision, outcome, reason: refusal, atMs: clock.now() },
      }),
    )
    log.info({ region, policy: name, digest, outcome, reason: refusal }, 'a policy of another region')
  }
}
