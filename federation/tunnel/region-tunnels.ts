import type { Environment } from '../../core/contract/clock.ts'
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
  RegionTunnels,
  TunnelAddress,
  TunnelBackend,
  TunnelCredentials,
  TunnelListener,
  TunnelSession,
  TunnelStream,
} from '../../core/contract/tunnel.ts'
import { parseEndpoint } from '../identity/endpoint.ts'
import { encodeInvitation, invitationDigest } from '../identity/invitation.ts'
import { shownKey, withInvitation, withNews, withNextKey, withoutPeer } from '../identity/record.ts'
import type { RegionIdentityStore } from '../identity/region-identity.ts'
import { answer, ask, type Hello, helloSchema, type Joined } from './exchange.ts'
import { answerJoin, followInvitation, Guests, type JoinParts, joinTopic } from './join.ts'
import { PeerTunnels } from './peer-tunnels.ts'
import { openTopic, TopicRouter } from './topics.ts'

export interface RegionTunnelsOptions {
  readonly regionId: number
  /** Of the region, for people. */
  readonly name: string
  readonly node: string
  readonly identity: RegionIdentityStore
  /** In the order in which they are tried. */
  readonly backends: readonly TunnelBackend[]
  /** undefined: this node takes no tunnels and dials only. */
  readonly listen: TunnelAddress | undefined
  /** What others are told to dial; empty: the address that was bound. */
  readonly endpoints: readonly string[]
  /** Whether this node of the region dials: one of them is enough. */
  mayDial(): boolean
  readonly environment: Environment
  readonly log: Logger
}

/** The record is looked at so often: other nodes of the region change it too, and a revoked peer is cut within a second. */
const pollMs = 250
const helloTopic = 'hello'
const helloMs = 5_000
/** A guest's session has proved a key and no region. */
const guestRegionId = -1

export interface RunningTunnels extends RegionTunnels, FederationAdministration {
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
  readonly #guests: Guests
  readonly #peers = new Map<number, PeerTunnels>()
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
    this.#router = new TopicRouter(options.log)
    const { identity, regionId, environment } = options
    this.#join = { identity, regionId, clock: environment.clock, introduction: () => this.#introduction() }
    this.#guests = new Guests(this.#join)
    this.#router.serve(helloTopic, (_, stream, session) => this.#answerHello(stream, session))
    this.#router.serve(joinTopic, (_, stream, session) => answerJoin(this.#join, session, stream))
    this.#polling = this.#poll()
  }

  // RegionTunnels

  connected(): readonly number[] {
    return [...this.#peers]
      .flatMap(([regionId, peer]) => (peer.isConnected ? [regionId] : []))
      .toSorted((left, right) => left - right)
  }

  async open(regionId: number, topic: string, signal?: AbortSignal): Promise<TunnelStream> {
    const session = this.#peers.get(regionId)?.session
    if (session === undefined) {
      const problem = this.#peers.get(regionId)?.problem ?? 'it is not joined with this one'
      throw new StorageError('PEER_UNREACHABLE', `there is no tunnel to region ${regionId}: ${problem}`)
    }
    return openTopic(session, topic, signal)
  }

  serve(topic: string, handle: Parameters<RegionTunnels['serve']>[1]): () => void {
    return this.#router.serve(topic, handle)
  }

  onChange(listener: (regionId: number, isConnected: boolean) => void): () => void {
    this.#changes.add(listener)
    return () => this.#changes.delete(listener)
  }

  // FederationAdministration

  status(): FederationStatus {
    const { identity, regionId, name, environment } = this.#options
    const record = identity.record()
    const nowMs = environment.clock.now()
    const shown = shownKey(record, nowMs)
    return {
      isListening: this.#bound !== undefined,
      problem: this.#listenProblem,
      listen: this.#bound === undefined ? '' : formatAddress(this.#bound),
      endpoints: this.#endpoints(),
      regionId,
      name,
      keys: record.keys.map((key) => ({
        publicKey: key.publicKey,
        fromMs: key.fromMs,
        isShown: key === shown,
      })),
      peers: record.peers.map((peer) => this.#peerStatus(peer)),
      invitations: record.invitations.filter(({ expiresMs }) => expiresMs > nowMs).length,
    }
  }

  async invite({ validMs, regionId: forRegion }: InviteRequest): Promise<InviteReply> {
    const { identity, environment, regionId, name } = this.#options
    await this.#ensureListening()
    const endpoints = this.#endpoints()
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
      this.#dialAny(endpoints, credentials, { regionId, publicKeys: [publicKey] }, this.#closing.signal),
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
    const keys = this.#ownKeys().join(' ')
    if (record.epoch === this.#seenEpoch && keys === this.#seenKeys) return
    const haveKeysChanged = keys !== this.#seenKeys
    this.#seenEpoch = record.epoch
    this.#seenKeys = keys
    for (const [regionId, peer] of this.#peers) {
      const known = record.peers.find((other) => other.regionId === regionId)
      if (known === undefined) {
        this.#peers.delete(regionId)
        void peer.close('this region is trusted no more', 'refused')
        continue
      }
      for (const session of peer.sessions()) {
        if (known.publicKeys.includes(session.peer.publicKey)) continue
        session.close({ closeCode: 'refused', reason: 'the key of this tunnel is no more one of the region' })
      }
      peer.wake()
    }
    for (const { regionId } of record.peers) {
      if (!this.#peers.has(regionId)) this.#peers.set(regionId, this.#keep(regionId))
    }
    if (haveKeysChanged) this.#announce()
  }

  #keep(regionId: number): PeerTunnels {
    const { regionId: ownRegionId, environment, log } = this.#options
    return new PeerTunnels({
      ...{ regionId, ownRegionId, environment, log },
      mayDial: () =>
        this.#options.mayDial() && (this.#options.identity.peer(regionId)?.endpoints.length ?? 0) > 0,
      dial: (attempt, signal) => this.#dial(regionId, attempt, signal),
      onChange: (isConnected) => {
        for (const tell of this.#changes) tell(regionId, isConnected)
      },
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
      void this.#router.attach(session)
      this.#expectHello(session)
    }
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

  async #dial(regionId: number, attempt: number, signal: AbortSignal): Promise<void> {
    const { identity } = this.#options
    const peer = identity.peer(regionId)
    // After a change of keys that the other side has not heard of, an older one may still be known there.
    const credentials = identity.credentials(attempt)
    if (peer === undefined || credentials === undefined) return
    const { endpoints, publicKeys } = peer
    const session = await this.#dialAny(endpoints, credentials, { regionId, publicKeys }, signal)
    void this.#router.attach(session)
    try {
      await this.#sayHello(session)
    } catch (reason) {
      session.close({ reason: 'the introduction failed' })
      throw reason
    }
  }

  async #dialAny(
    endpoints: readonly string[],
    credentials: TunnelCredentials,
    expect: { readonly regionId: number; readonly publicKeys: readonly string[] },
    signal: AbortSignal,
  ): Promise<TunnelSession> {
    let failure: unknown = new StorageError('PEER_UNREACHABLE', 'the region has told no address')
    for (const endpoint of endpoints) {
      const address = parseEndpoint(endpoint)
      if (address === undefined) continue
      for (const backend of this.#options.backends) {
        try {
          return await backend.dial({ address, credentials, expect, signal })
        } catch (reason) {
          signal.throwIfAborted()
          failure = reason
        }
      }
    }
    throw failure
  }

  async #sayHello(session: TunnelSession): Promise<void> {
    const { regionId } = session.peer
    const late = new AbortController()
    this.#options.environment.clock.sleep(helloMs, late.signal).then(
      () => session.close({ closeCode: 'protocol', reason: 'hello was not answered' }),
      () => undefined,
    )
    try {
      const told = await ask(session, helloTopic, this.#hello(regionId), helloSchema)
      await this.#hear(session, told)
    } finally {
      late.abort()
    }
  }

  async #answerHello(stream: TunnelStream, session: TunnelSession): Promise<void> {
    await answer(stream, helloSchema, async (told) => {
      await this.#hear(session, told)
      return this.#hello(session.peer.regionId)
    })
  }

  async #hear(session: TunnelSession, told: Hello): Promise<void> {
    const { regionId } = session.peer
    const { node, regionId: toldId, name, endpoints, publicKeys, knowsKey } = told
    if (toldId !== regionId) {
      throw new StorageError('PEER_REFUSED', `region ${regionId} says that it is region ${toldId}`)
    }
    await this.#options.identity.change((record) =>
      withNews(record, regionId, {
        ...{ name, endpoints, publicKeys },
        knowsKey: knowsKey === '' ? (this.#options.identity.peer(regionId)?.knowsKey ?? '') : knowsKey,
      }),
    )
    this.#refresh()
    this.#peers.get(regionId)?.add(session, node)
  }

  // What is told.

  #hello(regionId: number): Hello {
    const knowsKey = this.#options.identity.peer(regionId)?.publicKeys.at(-1) ?? ''
    return { ...this.#introduction(), node: this.#options.node, knowsKey }
  }

  #introduction(): Joined {
    const { regionId, name } = this.#options
    return { regionId, name, endpoints: [...this.#endpoints()], publicKeys: [...this.#ownKeys()] }
  }

  /** From the one that is shown on: who hears this drops those before. */
  #ownKeys(): readonly string[] {
    const { identity, environment } = this.#options
    const record = identity.record()
    const shown = shownKey(record, environment.clock.now())
    if (shown === undefined) return []
    return record.keys.slice(record.keys.indexOf(shown)).map(({ publicKey }) => publicKey)
  }

  #endpoints(): readonly string[] {
    if (this.#options.endpoints.length > 0) return this.#options.endpoints
    if (this.#bound === undefined || isWildcard(this.#bound.host)) return []
    return [formatAddress(this.#bound)]
  }

  #peerStatus(peer: FederationPeer): PeerStatus {
    const newest = this.#options.identity.record().keys.at(-1)?.publicKey
    const tunnels = this.#peers.get(peer.regionId)
    const live = tunnels?.first
    const { regionId, name, endpoints, publicKeys, joinedMs } = peer
    const common = {
      ...{ regionId, name, endpoints, publicKeys, joinedMs },
      knowsNewestKey: newest !== undefined && peer.knowsKey === newest,
      isConnected: live !== undefined,
      problem: live === undefined ? (tunnels?.problem ?? '') : '',
    }
    if (live === undefined) return common
    const { rttMs = 0, bytesSent, bytesReceived, openStreams } = live.session.stats()
    const { backend, isDialed } = live.session
    return {
      ...common,
      tunnel: { backend, isDialed, sinceMs: live.sinceMs, rttMs, bytesSent, bytesReceived, openStreams },
    }
  }
}

const isWildcard = (host: string): boolean => host === '0.0.0.0' || host === '::'

function formatAddress({ host, port }: TunnelAddress): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`
}
