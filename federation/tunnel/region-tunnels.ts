import { StorageError } from '../../core/contract/errors.ts'
import type {
  FederationAdministration,
  FederationPeer,
  FederationStatus,
  InviteReply,
  InviteRequest,
  PeerStatus,
} from '../../core/contract/federation.ts'
import type { Logger } from '../../core/contract/logger.ts'
import type {
  LinkShare,
  RegionTunnels,
  StreamSeal,
  TunnelAddress,
  TunnelBackend,
  TunnelBackendName,
  TunnelListener,
  TunnelSession,
  TunnelStream,
} from '../../core/contract/tunnel.ts'
import { formatAddress } from '../identity/endpoint.ts'
import { encodeInvitation, invitationDigest } from '../identity/invitation.ts'
import { withInvitation, withNews, withNextKey, withoutPeer } from '../identity/record.ts'
import { dialAny } from './dial-any.ts'
import { answer, ask, type Hello, helloSchema } from './exchange.ts'
import { answerJoin, followInvitation, Guests, type JoinParts, joinTopic } from './join.ts'
import { type OwnFacts, OwnIntroduction } from './own-introduction.ts'
import { peerStatus, recordStatus } from './peer-status.ts'
import { PeerTunnels } from './peer-tunnels.ts'
import { answerProbe, probeTopic } from './probe.ts'
import { SealSessions } from './seal-sessions.ts'
import { shapedStream } from './shaped-stream.ts'
import { classOf, openTopic, TopicRouter } from './topics.ts'
import { WayChooser, type WayChooserParts } from './way-chooser.ts'

export interface RegionTunnelsOptions extends OwnFacts {
  /** In the order in which they are tried. */
  readonly backends: readonly TunnelBackend[]
  /** undefined: this node takes no tunnels and dials only. */
  readonly listen: TunnelAddress | undefined
  /** How what is moved in bulk gets to other regions; absent: over the tunnel itself. */
  readonly ways?: Pick<WayChooserParts, 'connections' | 'select'>
  /** What this node sends to a region at most, bytes a second over all connections; asked all the time. 0, or absent: no limit. */
  bytesPerSecond?(region: string): number
  /** Regions whose streams are sealed within their tunnels, and taken in no other way; absent: none. */
  seal?(regionId: number): StreamSeal | undefined
  /** Whether this node of the region dials: one of them is enough. */
  mayDial(): boolean
  readonly log: Logger
}

/** The record is looked at so often: other nodes of the region change it too, and a revoked peer is cut within a second. */
const pollMs = 250
const helloTopic = 'hello'
/** The topic whose streams are spread over all connections. */
const bulkTopic = 'replication'
const helloMs = 5_000
/** A guest's session has proved a key and no region. */
const guestRegionId = -1

export interface RunningTunnels extends RegionTunnels, FederationAdministration {
  /** The ways to a region that were measured, and the one that is used; undefined where none is chosen. */
  ways(regionId: number): Pick<WayChooser, 'measured' | 'chosen' | 'open'> | undefined
  /** What this node has sent to the regions that it is joined with, and may send. */
  shares(): readonly LinkShare[]
  close(): Promise<void>
}

/**
 * Keeps a tunnel to each region that is trusted, for as long as it is. The port for tunnels is open from the first invitation on:
 * a region that is joined with nobody has none. One that is taken is told in the status, and tried again.
 */
export function openRegionTunnels(options: RegionTunnelsOptions): RunningTunnels {
  return new Tunnels(options)
}

class Tunnels implements RunningTunnels {
  readonly #options: RegionTunnelsOptions
  readonly #router: TopicRouter
  readonly #join: JoinParts
  readonly #introduction: OwnIntroduction
  readonly #guests: Guests
  readonly #seals: SealSessions
  readonly #peers = new Map<number, PeerTunnels>()
  readonly #ways = new Map<number, WayChooser>()
  /** Sessions that have not said hello: they belong to no peer's tunnels yet, and are cut from here. */
  readonly #early = new Set<TunnelSession>()
  readonly #changes = new Set<(regionId: number, isConnected: boolean) => void>()
  readonly #closing = new AbortController()
  #listeners: TunnelListener[] = []
  #listening: Promise<void> | undefined
  #listenProblem = ''
  #bound: TunnelAddress | undefined
  #seenEpoch = -1
  #seenKeys = ''
  readonly #polling: Promise<void>

  constructor(options: RegionTunnelsOptions) {
    this.#options = options
    this.#router = new TopicRouter(options.log, (session, stream, topic) =>
      this.#taken(session, stream, topic),
    )
    const { identity, regionId, environment } = options
    this.#seals = new SealSessions(environment.randomness)
    this.#introduction = new OwnIntroduction(options, () => this.#bound)
    this.#join = {
      identity,
      regionId,
      clock: environment.clock,
      introduction: () => this.#introduction.told(),
    }
    this.#guests = new Guests(this.#join)
    this.#router.serve(helloTopic, (_, stream, session) => this.#answerHello(stream, session))
    this.#router.serve(joinTopic, (_, stream, session) => answerJoin(this.#join, session, stream))
    this.#router.serve(probeTopic, (_, stream) => answerProbe(stream, environment.clock))
    this.#polling = this.#poll()
  }

  // RegionTunnels

  connected(): readonly number[] {
    return [...this.#peers]
      .flatMap(([regionId, peer]) => (peer.isConnected ? [regionId] : []))
      .toSorted((left, right) => left - right)
  }

  async open(regionId: number, topic: string, signal?: AbortSignal): Promise<TunnelStream> {
    const peer = this.#peers.get(regionId)
    const session = topic === bulkTopic ? peer?.takeWidest() : peer?.session
    if (peer === undefined || session === undefined) {
      const problem = peer?.problem ?? 'it is not joined with this one'
      throw new StorageError('PEER_UNREACHABLE', `there is no tunnel to region ${regionId}: ${problem}`)
    }
    const stream = shapedStream(await openTopic(session, topic, signal), peer.shaper, classOf(topic))
    return this.#options.seal?.(regionId)?.opened(stream, topic, this.#seals.of(session)) ?? stream
  }

  #taken(session: TunnelSession, stream: TunnelStream, topic: string): TunnelStream {
    const { regionId } = session.peer
    const shaper = this.#peers.get(regionId)?.shaper
    const shaped = shaper === undefined ? stream : shapedStream(stream, shaper, classOf(topic))
    // What makes a tunnel says nothing that the two ends of it do not know.
    if (topic === helloTopic || topic === joinTopic || topic === probeTopic) return shaped
    return this.#options.seal?.(regionId)?.served(shaped, topic, this.#seals.of(session)) ?? shaped
  }

  serve(topic: string, handle: Parameters<RegionTunnels['serve']>[1]): () => void {
    return this.#router.serve(topic, handle)
  }

  ways(regionId: number): WayChooser | undefined {
    return this.#ways.get(regionId)
  }

  shares(): readonly LinkShare[] {
    return this.#options.identity.record().peers.flatMap(({ regionId, name }) => {
      const shaper = this.#peers.get(regionId)?.shaper
      if (shaper === undefined) return []
      return [{ region: name, bytesPerSecond: shaper.bytesPerSecond, sentBytes: shaper.sentBytes }]
    })
  }

  onChange(listener: (regionId: number, isConnected: boolean) => void): () => void {
    this.#changes.add(listener)
    return () => this.#changes.delete(listener)
  }

  // FederationAdministration

  status(): FederationStatus {
    const { identity, regionId, name, environment } = this.#options
    const record = identity.record()
    return {
      isListening: this.#bound !== undefined,
      problem: this.#listenProblem,
      listen: this.#bound === undefined ? '' : formatAddress(this.#bound),
      endpoints: this.#introduction.endpoints(),
      regionId,
      name,
      ...recordStatus(record, environment.clock.now()),
      peers: record.peers.map((peer) => this.#peerStatus(peer)),
    }
  }

  async invite({ validMs, regionId: forRegion }: InviteRequest): Promise<InviteReply> {
    const { identity, environment, regionId, name } = this.#options
    await this.#ensureListening()
    const endpoints = this.#introduction.endpoints()
    if (endpoints.length === 0) {
      throw new StorageError(
        'INVALID_ARGUMENT',
        'nobody could follow an invitation of this region: it has told no address that others can dial; set tunnel.listen ' +
          '(PANDO_TUNNEL_LISTEN), or tunnel.endpoints where it listens on all addresses, or invite from the other region',
      )
    }
    const { publicKey, seed } = await identity.ensureKey()
    const nowMs = environment.clock.now()
    const expiresMs = nowMs + validMs
    const secret = Buffer.from(environment.randomness.fill(new Uint8Array(16))).toString('hex')
    const only = forRegion === undefined ? {} : { regionId: forRegion }
    await identity.change((record) =>
      withInvitation(record, { digest: invitationDigest(secret), expiresMs, ...only }, nowMs),
    )
    const invitation = { secret, regionId, name, publicKey, endpoints, expiresMs }
    const token = encodeInvitation(forRegion === undefined ? invitation : { ...invitation, forRegion }, seed)
    return { token, expiresMs }
  }

  async join(token: string): Promise<PeerStatus> {
    const credentials = await this.#options.identity.ensureKey()
    const peer = await followInvitation(this.#join, token, ({ regionId, publicKey, endpoints }) =>
      dialAny(this.#options.backends, endpoints, {
        ...{ credentials, expect: { regionId, publicKeys: [publicKey] }, signal: this.#closing.signal },
      }),
    )
    this.#refresh()
    return this.#peerStatus(peer)
  }

  async revoke(regionId: number): Promise<void> {
    await this.#options.identity.change((record) => withoutPeer(record, regionId))
    this.#refresh()
  }

  async rotate(afterMs: number): Promise<FederationStatus> {
    const { identity, environment } = this.#options
    await identity.ensureKey()
    const nowMs = environment.clock.now()
    const key = identity.makeKey(nowMs + afterMs)
    await identity.change((record) => withNextKey(record, key, nowMs))
    this.#refresh()
    return this.status()
  }

  async close(): Promise<void> {
    if (this.#closing.signal.aborted) return
    this.#closing.abort(new StorageError('CLOSED', 'the tunnels are closed'))
    await this.#polling
    await this.#listening?.catch(() => undefined)
    await Promise.all(this.#listeners.map((listener) => listener.close()))
    for (const session of this.#early) session.close({ reason: 'the region stops' })
    await Promise.all([...this.#ways.values()].map((way) => way.close()))
    await Promise.all([...this.#peers.values()].map((peer) => peer.close('the region stops')))
  }

  // The record and what follows from it.

  async #poll(): Promise<void> {
    const { clock } = this.#options.environment
    const { signal } = this.#closing
    while (!signal.aborted) {
      try {
        this.#refresh()
        if (this.#isWanted()) await this.#ensureListening().catch(() => undefined)
      } catch (reason) {
        this.#options.log.warn(
          { err: StorageError.from(reason) },
          'what is known of the federation cannot be read',
        )
      }
      await clock.sleep(pollMs, signal).catch(() => undefined)
    }
  }

  #refresh(): void {
    if (this.#closing.signal.aborted) return
    const { identity } = this.#options
    const record = identity.record()
    const keys = this.#introduction.keys().join(' ')
    if (record.epoch === this.#seenEpoch && keys === this.#seenKeys) return
    const haveKeysChanged = keys !== this.#seenKeys
    this.#seenEpoch = record.epoch
    this.#seenKeys = keys
    for (const [regionId, peer] of this.#peers) {
      const known = record.peers.find((other) => other.regionId === regionId)
      if (known === undefined) {
        this.#peers.delete(regionId)
        void this.#ways.get(regionId)?.close()
        this.#ways.delete(regionId)
        void peer.close(untrusted.reason, untrusted.closeCode)
        continue
      }
      for (const session of peer.sessions()) {
        if (known.publicKeys.includes(session.peer.publicKey)) continue
        session.close({ closeCode: 'refused', reason: 'the key of this tunnel is no more one of the region' })
      }
      peer.wake()
    }
    for (const session of this.#early) if (!this.#isTrusted(session)) session.close(untrusted)
    for (const { regionId } of record.peers) {
      if (this.#peers.has(regionId)) continue
      const peer = this.#keep(regionId)
      this.#peers.set(regionId, peer)
      const { ways } = this.#options
      if (ways !== undefined) this.#ways.set(regionId, this.#choose(regionId, peer, ways))
    }
    if (haveKeysChanged) this.#announce()
  }

  #keep(regionId: number): PeerTunnels {
    const { regionId: ownRegionId, environment, log } = this.#options
    return new PeerTunnels({
      ...{ regionId, ownRegionId, environment, log },
      bytesPerSecond: () => this.#bytesPerSecond(regionId),
      mayDial: () =>
        this.#options.mayDial() && (this.#options.identity.peer(regionId)?.endpoints.length ?? 0) > 0,
      dial: (attempt, signal) => this.#dial(regionId, attempt, signal),
      onChange: (isConnected) => {
        for (const tell of this.#changes) tell(regionId, isConnected)
      },
    })
  }

  #bytesPerSecond(regionId: number): number {
    const name = this.#options.identity.peer(regionId)?.name
    return name === undefined ? 0 : (this.#options.bytesPerSecond?.(name) ?? 0)
  }

  #choose(regionId: number, peer: PeerTunnels, ways: Pick<WayChooserParts, 'connections' | 'select'>) {
    const { backends, environment, log } = this.#options
    return new WayChooser({
      ...{ ...ways, regionId, peer, environment, log, backends: backends.map(({ name }) => name) },
      dial: (name, signal) => this.#connect(regionId, 0, signal, name),
      join: (session, lane) => this.#sayHello(session, lane),
    })
  }

  /** Tells all that have a tunnel which keys are ours now. */
  #announce(): void {
    for (const peer of this.#peers.values()) {
      for (const session of peer.sessions()) {
        this.#sayHello(session).catch((reason: unknown) => {
          this.#options.log.debug({ err: StorageError.from(reason) }, 'a region was not told of a key')
        })
      }
    }
  }

  // Sessions.

  /** Somebody is, or may come to be, trusted. */
  #isWanted(): boolean {
    const { peers } = this.#options.identity.record()
    return peers.length > 0 || this.#options.identity.expectsGuests()
  }

  /** Once, and again after it failed. UNAVAILABLE. */
  #ensureListening(): Promise<void> {
    const { listen, log } = this.#options
    if (listen === undefined) return Promise.resolve()
    this.#listening ??= this.#listen(listen).catch(async (reason: unknown) => {
      this.#listening = undefined
      const bound = this.#listeners
      this.#listeners = []
      await Promise.all(bound.map((listener) => listener.close()))
      const { reason: problem } = StorageError.from(reason)
      const sentence = `the port for tunnels (tunnel.listen) cannot be opened: ${problem}`
      if (sentence !== this.#listenProblem) log.warn({ problem }, sentence)
      this.#listenProblem = sentence
      throw new StorageError('UNAVAILABLE', sentence, { cause: reason })
    })
    return this.#listening
  }

  async #listen(address: TunnelAddress): Promise<void> {
    const { identity, backends } = this.#options
    const credentials = await identity.ensureKey()
    let port = address.port
    for (const backend of backends) {
      const listener = await backend.listen({
        address: { host: address.host, port },
        credentials: () => identity.credentials() ?? credentials,
        admit: (publicKey) => identity.peerOf(publicKey) ?? (identity.expectsGuests() ? 'guest' : undefined),
        onSession: (session) => this.#receive(session),
      })
      this.#listeners.push(listener)
      // All back ends have the same number, be it of TCP or UDP.
      port = listener.port
    }
    this.#bound = { host: address.host, port }
    this.#listenProblem = ''
    this.#options.log.info({ listen: formatAddress(this.#bound) }, 'the port for tunnels is open')
  }

  #receive(session: TunnelSession): void {
    if (this.#closing.signal.aborted) session.close({ reason: 'the region stops' })
    else if (session.peer.regionId === guestRegionId) this.#guests.receive(session)
    else {
      // Its first stream says which node it is; see `#answerHello`.
      this.#attach(session)
      this.#expectHello(session)
    }
  }

  #attach(session: TunnelSession): void {
    this.#early.add(session)
    void session.closed.then(() => this.#early.delete(session))
    // The record may have changed since its key was looked at.
    if (this.#isTrusted(session)) void this.#router.attach(session)
    else session.close(untrusted)
  }

  /** Whether the key that it was made with still is one of its region. */
  #isTrusted({ peer: { regionId, publicKey } }: TunnelSession): boolean {
    return this.#options.identity.peerOf(publicKey)?.regionId === regionId
  }

  #expectHello(session: TunnelSession): void {
    const { clock } = this.#options.environment
    const gone = new AbortController()
    void session.closed.then(() => gone.abort())
    clock.sleep(helloMs, gone.signal).then(
      () => {
        const peer = this.#peers.get(session.peer.regionId)
        if (peer?.sessions().includes(session) !== true) {
          session.close({ closeCode: 'protocol', reason: 'a tunnel begins with hello' })
        }
      },
      () => undefined,
    )
  }

  async #connect(regionId: number, attempt: number, signal: AbortSignal, by?: TunnelBackendName) {
    const { identity, backends } = this.#options
    const peer = identity.peer(regionId)
    // After a change of keys that the other side has not heard of, an older one may still be known there.
    const credentials = identity.credentials(attempt)
    if (peer === undefined || credentials === undefined) {
      throw new StorageError('PEER_UNREACHABLE', 'it is not joined with this one')
    }
    const { endpoints, publicKeys } = peer
    const expect = { regionId, publicKeys }
    const session = await dialAny(backends, endpoints, { credentials, expect, signal }, by)
    this.#attach(session)
    return session
  }

  async #dial(regionId: number, attempt: number, signal: AbortSignal): Promise<void> {
    const session = await this.#connect(regionId, attempt, signal)
    try {
      await this.#sayHello(session)
    } catch (reason) {
      session.close({ reason: 'the introduction failed' })
      throw reason
    }
  }

  async #sayHello(session: TunnelSession, lane?: number): Promise<void> {
    const { regionId } = session.peer
    const late = new AbortController()
    this.#options.environment.clock.sleep(helloMs, late.signal).then(
      () => session.close({ closeCode: 'protocol', reason: 'hello was not answered' }),
      () => undefined,
    )
    try {
      const own = { ...this.#introduction.hello(regionId), ...this.#seals.told(session) }
      const told = await ask(session, helloTopic, lane === undefined ? own : { ...own, lane }, helloSchema)
      await this.#hear(session, told, lane)
    } finally {
      late.abort()
    }
  }

  async #answerHello(stream: TunnelStream, session: TunnelSession): Promise<void> {
    await answer(stream, helloSchema, async (told) => {
      await this.#hear(session, told, told.lane)
      return { ...this.#introduction.hello(session.peer.regionId), ...this.#seals.told(session) }
    })
  }

  async #hear(session: TunnelSession, told: Hello, lane?: number): Promise<void> {
    const { regionId } = session.peer
    const { node, regionId: toldId, name, endpoints, publicKeys, knowsKey } = told
    if (toldId !== regionId) {
      throw new StorageError('PEER_REFUSED', `region ${regionId} says that it is region ${toldId}`)
    }
    this.#seals.hear(session, told.sealNonce)
    await this.#options.identity.change((record) =>
      withNews(record, session.peer, {
        ...{ name, endpoints, publicKeys },
        knowsKey: knowsKey === '' ? (this.#options.identity.peer(regionId)?.knowsKey ?? '') : knowsKey,
      }),
    )
    this.#early.delete(session)
    this.#refresh()
    const tunnels = this.#peers.get(regionId)
    if (tunnels === undefined) session.close(untrusted)
    else if (lane !== undefined) tunnels.addLane(session)
    // A lane may be told of a key like any other connection.
    else if (!tunnels.isLane(session)) tunnels.add(session, node)
  }

  #peerStatus(peer: FederationPeer): PeerStatus {
    const newestKey = this.#options.identity.record().keys.at(-1)?.publicKey
    return peerStatus(peer, this.#peers.get(peer.regionId), newestKey)
  }
}

const untrusted = { closeCode: 'refused', reason: 'this region is trusted no more' } as const
