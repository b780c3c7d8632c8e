/**
 * Tunnels between regions, in the shape of W3C WebTransport (https://www.w3.org/TR/webtransport/): sessions that carry
 * bidirectional streams. A back end (TLS over TCP, QUIC, memory in tests) makes sessions; whoever replicates, fails over or
 * reports asks `RegionTunnels` for a stream to a region and does not know which back end carries it.
 *
 * What every back end obeys is told here and proved by test/kit/tunnel.ts. Errors of all calls are StorageErrors:
 * PEER_UNREACHABLE (nobody there, or the session ended), PEER_REFUSED (another key), PROTOCOL_ERROR (damaged), CANCELLED (one of
 * the two sides gave the stream up), CLOSED (used after its end).
 */

/** A region as the other end of a session has proved it. */
export interface RegionIdentity {
  readonly regionId: number
  /** The Ed25519 key that it has shown to hold: 32 bytes in lower-case hex. */
  readonly publicKey: string
}

/**
 * What shares the way to another region, the most urgent first: what keeps the federation itself together (introductions, keys); leases and
 * votes; the entries of outboxes and whatever else is small and waited for; bodies that a client waits for; bodies of replication; those of
 * a full synchronization. The first two go before everything else. The others share what is left, each with four times the weight of the next.
 */
export const linkClasses = ['control', 'failover', 'log', 'read', 'bulk', 'full-sync'] as const
export type LinkClass = (typeof linkClasses)[number]

/** The reader of a W3C ReadableStream of bytes, without the locks. One call at a time. */
export interface TunnelReader {
  /**
   * Some bytes in order, which are the reader's own. `done`: the other side has closed its direction. An end proves nothing about
   * completeness (a back end may take a lost stream for an ended one): messages say themselves that they are whole, see
   * federation/framing.
   */
  read(): Promise<TunnelRead>
  /** Nothing more is wanted: what comes is dropped, and writes of the other side reject with CANCELLED. Harmless when repeated. */
  cancel(reason?: string): Promise<void>
}

export type TunnelRead =
  | { readonly done: false; readonly value: Uint8Array }
  | { readonly done: true; readonly value: undefined }

/** The writer of a W3C WritableStream of bytes. One call at a time. */
export interface TunnelWriter {
  /**
   * Resolves when more may be written: a reader that does not read holds the writer up after a bounded number of bytes. The bytes
   * belong to the tunnel from the call on and must not be changed.
   */
  write(bytes: Uint8Array): Promise<void>
  /**
   * As `write`, but the bytes are only lent: `release` is called, once, when the tunnel looks at them no more, whether they have left or
   * not. It may be called late, long after the stream is given up. Optional: a back end without it is given a copy.
   */
  lend?(bytes: Uint8Array, release: () => void): Promise<void>
  /** Ends this direction after all that was written; resolves when that has left for the other side. */
  close(): Promise<void>
  /** Gives this direction up: reads of the other side reject with CANCELLED. Harmless when repeated, and after `close`. */
  abort(reason?: string): Promise<void>
}

/** Both directions end one by one. A stream that is not read to its end must be cancelled, or it takes its share of the session. */
export interface TunnelStream {
  readonly readable: TunnelReader
  readonly writable: TunnelWriter
  /**
   * What is written from now on is of this class. A stream begins with that of its topic. Optional: a back end without it sends what streams have in
   * turn, and a limit of the link is all that counts.
   */
  classify?(linkClass: LinkClass): void
}

export interface TunnelCloseInfo {
  readonly closeCode: TunnelCloseCode
  /** For a person. */
  readonly reason: string
  /** Which side ended it; `path`: neither, the connection broke or fell silent. */
  readonly by: 'here' | 'peer' | 'path'
}

/** Why a session ended; what travels is the number. */
export const tunnelCloseCodes = {
  /** In order: the process stops, or another session took its place. */
  goodbye: 0,
  /** The key is not, or no more, one of a peer. */
  refused: 1,
  /** The other side broke the protocol. */
  protocol: 2,
  /** The other side asked for more than it may. */
  overload: 3,
  /** The connection broke, or nothing came for three seconds. */
  lost: 4,
} as const

export type TunnelCloseCode = keyof typeof tunnelCloseCodes

/** A live connection of two regions. */
export interface TunnelSession {
  readonly peer: RegionIdentity
  readonly backend: TunnelBackendName
  /** Whether this side dialed. */
  readonly isDialed: boolean
  /** Resolves at once unless too many are open: then when one of them has ended in both directions. */
  createBidirectionalStream(signal?: AbortSignal): Promise<TunnelStream>
  /** Streams that the other side has opened and written to, in that order. One loop over it; ends when the session has. */
  readonly incomingBidirectionalStreams: AsyncIterable<TunnelStream>
  /** All streams of both sides reject from now on. The other side is told when the path allows it. Harmless when repeated. */
  close(info?: { readonly closeCode?: TunnelCloseCode; readonly reason?: string }): void
  /** Resolves when the session has ended, whatever ended it; never rejects. */
  readonly closed: Promise<TunnelCloseInfo>
  stats(): TunnelStats
}

/** Counters grow only. */
export interface TunnelStats {
  /** Of the last probe; undefined before the first one has come back. */
  readonly rttMs: number | undefined
  /** Payload and what frames it took, of all streams. */
  readonly bytesSent: number
  readonly bytesReceived: number
  readonly openStreams: number
  /** Share of the packets sent that were lost; absent where the back end does not know. */
  readonly loss?: number
}

export type TunnelBackendName = 'tls' | 'quic' | 'webtransport' | 'memory'

/** How a region proves to others who it is. */
export interface TunnelCredentials {
  /** 32 bytes in lower-case hex. */
  readonly publicKey: string
  /** The seed of the Ed25519 key (RFC 8032, 5.1.5): 32 bytes. A secret. */
  readonly seed: Uint8Array
}

export interface TunnelAddress {
  readonly host: string
  /** TCP or UDP, as the back end needs. */
  readonly port: number
}

export interface TunnelListenOptions {
  readonly address: TunnelAddress
  readonly credentials: () => TunnelCredentials
  /**
   * Asked for every connection, when its key has been proved. undefined refuses it before anything of it is read; `guest` lets a
   * stranger in who may have an invitation: a session with regionId -1, one stream, a few seconds.
   */
  admit(publicKey: string): RegionIdentity | 'guest' | undefined
  onSession(session: TunnelSession): void
}

export interface TunnelListener {
  /** As bound. */
  readonly port: number
  /** Takes no more connections; the sessions that there are stay. */
  close(): Promise<void>
}

export interface TunnelDialOptions {
  readonly address: TunnelAddress
  readonly credentials: TunnelCredentials
  /** Who must be there: any of the keys. PEER_REFUSED when it is somebody else, before anything is sent. */
  readonly expect: { readonly regionId: number; readonly publicKeys: readonly string[] }
  readonly signal: AbortSignal
}

/** One way to make sessions. */
export interface TunnelBackend {
  readonly name: TunnelBackendName
  /** UNAVAILABLE (in use), INVALID_ARGUMENT (no such address). */
  listen(options: TunnelListenOptions): Promise<TunnelListener>
  /** Resolves when the other side has admitted us. PEER_UNREACHABLE, PEER_REFUSED; the signal's reason when it aborts. */
  dial(options: TunnelDialOptions): Promise<TunnelSession>
}

/**
 * Seals what streams between two regions carry with a key that only the two have, and that no tunnel ever carries: whoever ends tunnels
 * between them, with whatever keys of regions, reads and changes nothing of it.
 */
export interface StreamSeal {
  /** Of a stream that this side has opened for the topic. */
  opened(stream: TunnelStream, topic: string, session: SealSession): TunnelStream
  /**
   * Of one that the other side has opened. Reads reject with PROTOCOL_ERROR when it is sealed with no key of ours, or not at all, or for
   * another session, or was shown before.
   */
  served(stream: TunnelStream, topic: string, session: SealSession): TunnelStream
}

/** Of one session: by it a sealed stream is good for this session alone, and once. */
export interface SealSession {
  /** Random bytes of this side: streams that the other side opens are bound to them. */
  readonly ours: Uint8Array
  /** Of the other side; undefined: it has not said any. */
  readonly theirs: Uint8Array | undefined
  /** Of the next stream that this side opens: 1, 2, ... */
  nextPlace(): number
  /** False for a place that was taken before, or is too far behind to tell. */
  take(place: number): boolean
}

/** What one region was sent by this node, over all connections. */
export interface LinkShare {
  /** Its name. */
  readonly region: string
  /** 0: no limit. */
  readonly bytesPerSecond: number
  /** Payload; grows only. */
  readonly sentBytes: ReadonlyMap<LinkClass, number>
}

/**
 * What the rest of the federation sees of tunnels: the regions that this one is joined with, and streams to them. A stream is for
 * one topic, which its first bytes name.
 */
export interface RegionTunnels {
  /** Regions with a live tunnel now, ascending. */
  connected(): readonly number[]
  /** PEER_UNREACHABLE at once when there is no tunnel. */
  open(regionId: number, topic: string, signal?: AbortSignal): Promise<TunnelStream>
  /**
   * Takes the streams that others open for a topic (1 to 64 of a-z, 0-9, - and .). CONFLICT when the topic is taken. A handler that
   * throws has the stream given up; what one that returns has not read is thrown away. Returns how to stop.
   */
  serve(topic: string, handle: (peer: RegionIdentity, stream: TunnelStream) => Promise<void>): () => void
  /** Called when a tunnel comes or goes; returns how to stop. */
  onChange(listener: (regionId: number, isConnected: boolean) => void): () => void
}
