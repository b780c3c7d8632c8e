import { lookup } from 'node:dns/promises'
import { isIP } from 'node:net'
import { StorageError } from '../core/contract/errors.ts'
import { maxChunkBytes, placementGroupCount } from '../core/contract/ids.ts'
import type { TransportName } from '../core/contract/policy.ts'
import {
  type ChunkSession,
  type ConnectOptions,
  type ListenOptions,
  type NodeIdentity,
  noticeBytes,
  type RefusedPeers,
  type ServedRequest,
  type TransportAdapter,
  type TransportAvailability,
  type TransportCapabilities,
  type TransportListener,
} from '../core/contract/transport.ts'
import { portOps } from './data-plane-port.ts'
import { type PeerDoor, PeerFault, peerDoorOf } from './peer-door.ts'
import {
  type EncryptMode,
  maxAddressBytes,
  movedPages,
  type PeerPage,
  type PeerRequest,
} from './peer-pages.ts'
import { NativeSession } from './peer-session.ts'
import { ServedBoard } from './served-board.ts'

export interface NativeTransportOptions {
  readonly id: string
  readonly kind: TransportName
  /** The driver's name in native/src/rpc/drivers.cc. */
  readonly driver: string
  /** The network interface to which sockets are bound, for drivers that are bound to one. PEER_UNREACHABLE: there is none. */
  interfaceOf?(address: string, purpose: 'listen' | 'connect'): Promise<string>
  readonly priority: number
  readonly capabilities: TransportCapabilities
  readonly encrypt: EncryptMode
  /** Addresses are host:port and may be names. */
  readonly resolvesNames: boolean
  detect(): Promise<TransportAvailability>
}

/** A transport of the data plane. Serves native stores, without a byte through JavaScript. */
export function createNativeTransport(options: NativeTransportOptions): TransportAdapter {
  return new NativeTransport(options)
}

const defaults = {
  timeoutMs: 5000,
  keepAliveMs: 10_000,
  requestCredits: 64,
  byteCredits: 16 * 1024 * 1024,
  maxSessions: 1024,
  graceMs: 5000,
}
const barred = {
  found: 'it cannot be encrypted, and rpc.encrypt is required',
  advice: 'rpc.encrypt: auto, where its network is private',
}
const epochsOfAPage = placementGroupCount / movedPages
const noEpochs = new Uint32Array(epochsOfAPage)
const nobody = { requestCredits: 0, byteCredits: 0, maxSessions: 0 }

class NativeTransport implements TransportAdapter {
  readonly id: string
  readonly kind: TransportName
  readonly priority: number
  readonly capabilities: TransportCapabilities
  readonly maxFrameBytes = maxChunkBytes
  readonly #options: NativeTransportOptions

  constructor(options: NativeTransportOptions) {
    this.id = options.id
    this.kind = options.kind
    this.priority = options.priority
    this.capabilities = options.capabilities
    this.#options = options
  }

  detect(): Promise<TransportAvailability> {
    if (this.#isBarred) return Promise.resolve({ available: false, addresses: [], ...barred })
    return this.#options.detect()
  }

  /** What it carries others could read, and that is not wanted. */
  get #isBarred(): boolean {
    const { encrypted, sameHostOnly } = this.capabilities
    return this.#options.encrypt === 'required' && !encrypted && !sameHostOnly
  }

  async listen(options: ListenOptions): Promise<TransportListener> {
    const door = peerDoorOf(options.store)
    const [board, ...moved] = takeListenerPages(door)
    for (const page of moved) page.writeEpochs(noEpochs)
    const served = new ServedBoard(board)
    const opening = this.#open(door, portOps.peerListen, options.identity, {
      moved,
      served: board,
      address: options.address,
      timeoutMs: options.handshakeTimeoutMs ?? defaults.timeoutMs,
      keepAliveMs: 0,
      requestCredits: options.requestCredits ?? defaults.requestCredits,
      byteCredits: options.byteCredits ?? defaults.byteCredits,
      maxSessions: options.maxSessions ?? defaults.maxSessions,
    })
    try {
      return new NativeListener({ door, moved, served, ...(await opening) })
    } catch (error) {
      for (const page of [board, ...moved]) door.givePage(page)
      throw error
    }
  }

  async connect(options: ConnectOptions): Promise<ChunkSession> {
    const door = peerDoorOf(options.buffers)
    const { signal } = options
    if (signal?.aborted) throw cancelled(signal)
    const opening = this.#open(door, portOps.peerConnect, options.identity, {
      address: options.address,
      timeoutMs: options.timeoutMs ?? defaults.timeoutMs,
      keepAliveMs: options.keepAliveMs ?? defaults.keepAliveMs,
      ...nobody,
      ...(options.peerNodeId ? { peerNodeId: options.peerNodeId } : {}),
    })
    const session = opening.then(
      (opened) => new NativeSession({ adapterId: this.id, kind: this.kind, door, ...opened }),
    )
    return signal ? abandonable(session, signal) : session
  }

  async #open(
    door: PeerDoor,
    op: number,
    identity: NodeIdentity,
    asked: Omit<PeerRequest, 'kind' | 'network' | 'encrypt' | keyof NodeIdentity>,
  ): Promise<{ page: PeerPage; handle: number }> {
    checkIdentity(identity, asked.peerNodeId)
    const isListen = op === portOps.peerListen
    if (this.#isBarred) throw new StorageError(isListen ? 'UNAVAILABLE' : 'PEER_REFUSED', barred.found)
    const network = await this.#options.interfaceOf?.(asked.address, isListen ? 'listen' : 'connect')
    const address = this.#options.resolvesNames ? await resolveHost(asked.address) : asked.address
    if (Buffer.byteLength(address) > maxAddressBytes) {
      throw new StorageError('INVALID_ARGUMENT', `an address has at most ${maxAddressBytes} bytes`)
    }
    const page = door.takePage()
    try {
      const { driver: kind, encrypt } = this.#options
      page.write({ ...asked, ...identity, address, kind, encrypt, network: network ?? '' })
      const { value } = await door.ask({ op, slabOffset: page.offset })
      return { page, handle: value }
    } catch (reason) {
      const message = page.message
      door.givePage(page)
      if (!(reason instanceof PeerFault)) throw reason
      const code = isListen && reason.code === 'PEER_UNREACHABLE' ? 'UNAVAILABLE' : reason.code
      throw new StorageError(code, message || `no session with ${address}`, { cause: reason })
    }
  }
}

interface NativeListenerParts {
  readonly door: PeerDoor
  readonly page: PeerPage
  readonly moved: readonly PeerPage[]
  readonly served: ServedBoard
  readonly handle: number
}

class NativeListener implements TransportListener {
  readonly address: string
  readonly #door: PeerDoor
  readonly #page: PeerPage
  readonly #moved: readonly PeerPage[]
  readonly #served: ServedBoard
  readonly #handle: number
  readonly #unregister: () => void
  #lastRefusals: RefusedPeers = { count: 0, last: '' }
  #closing: Promise<void> | undefined

  constructor({ door, page, moved, served, handle }: NativeListenerParts) {
    this.address = page.address
    this.#door = door
    this.#page = page
    this.#moved = moved
    this.#served = served
    this.#handle = handle
    this.#unregister = door.register(() => this.close(0))
  }

  get sessionCount(): number {
    return this.#closing ? 0 : this.#page.counter('sessions')
  }

  get refusals(): RefusedPeers {
    if (this.#closing) return this.#lastRefusals
    // The text is written by another thread: what was read while it changed is read again.
    let count = this.#page.counter('refused')
    for (let before = -1; before !== count; ) {
      before = count
      this.#lastRefusals = { count, last: this.#page.message }
      count = this.#page.counter('refused')
    }
    return this.#lastRefusals
  }

  setMapEpoch(epoch: number, moved: Uint32Array): void {
    // Its pages are somebody else's soon.
    if (this.#closing) return
    this.#page.setMapEpoch(epoch)
    for (const [at, page] of this.#moved.entries()) {
      page.writeEpochs(moved.subarray(at * epochsOfAPage, (at + 1) * epochsOfAPage))
    }
  }

  post(notice: Uint8Array): void {
    checkNotice(notice)
    if (!this.#closing) this.#page.post(notice)
  }

  served(): { readonly requests: readonly ServedRequest[]; readonly lost: number } {
    return this.#closing ? { requests: [], lost: 0 } : this.#served.take()
  }

  close(graceMs: number = defaults.graceMs): Promise<void> {
    this.#lastRefusals = this.refusals
    this.#closing ??= this.#close(graceMs)
    return this.#closing
  }

  async #close(graceMs: number): Promise<void> {
    const length = Math.min(Math.max(0, Math.floor(graceMs)), 0xffffffff)
    await this.#door.ask({ op: portOps.peerClose, peer: this.#handle, length })
    this.#unregister()
    for (const page of [this.#page, this.#served.page, ...this.#moved]) this.#door.givePage(page)
  }
}

/** One for the board of served requests, then those of the groups' epochs. CLOSED, OVERLOADED. */
function takeListenerPages(door: PeerDoor): readonly [PeerPage, ...PeerPage[]] {
  const [board, ...moved] = door.takePages(1 + movedPages)
  if (board === undefined) throw new StorageError('INTERNAL', 'no page was given')
  return [board, ...moved]
}

function checkNotice({ length }: Uint8Array): void {
  if (length !== noticeBytes) {
    throw new StorageError('INVALID_ARGUMENT', `a notice has ${noticeBytes} bytes, not ${length}`)
  }
}

/** Settles with the abort at once; a session that opens nevertheless is closed. */
function abandonable(session: Promise<NativeSession>, signal: AbortSignal): Promise<NativeSession> {
  return new Promise((resolve, reject) => {
    const abandon = (): void => {
      reject(cancelled(signal))
      session.then((opened) => opened.close(0)).catch(() => undefined)
    }
    signal.addEventListener('abort', abandon, { once: true })
    session.then(resolve, reject).finally(() => signal.removeEventListener('abort', abandon))
  })
}

function cancelled(signal: AbortSignal): StorageError {
  return new StorageError('CANCELLED', 'connecting was cancelled', { cause: signal.reason })
}

function checkIdentity({ nodeId, regionId, regionKey, mapEpoch }: NodeIdentity, peer?: Uint8Array): void {
  const isSound =
    nodeId.length === 16 &&
    regionId.length === 16 &&
    regionKey.length === 32 &&
    (peer === undefined || peer.length === 16) &&
    Number.isSafeInteger(mapEpoch) &&
    mapEpoch >= 0
  if (!isSound)
    throw new StorageError('INVALID_ARGUMENT', 'ids have 16 bytes, a key has 32, an epoch is a count')
}

/** The data plane takes numbers only: it must not wait for name servers. */
async function resolveHost(address: string): Promise<string> {
  const colon = address.lastIndexOf(':')
  const host = address.slice(0, Math.max(0, colon))
  if (colon < 1 || host.startsWith('[') || isIP(host) !== 0) return address
  try {
    const found = await lookup(host)
    const numeric = found.family === 6 ? `[${found.address}]` : found.address
    return `${numeric}${address.slice(colon)}`
  } catch (cause) {
    throw new StorageError('PEER_UNREACHABLE', `the name ${host} is not known`, { cause })
  }
}
