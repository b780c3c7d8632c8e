import type { Acceptance, Publication, TakenPublication } from './sharing.ts'

/**
 * Who a region is, and with which others it is joined. One record that the region's catalog keeps, so that all nodes know the same
 * and it survives restarts; every change makes a new one with the next epoch. What the fields may hold is checked when a change is
 * proposed (core/catalog/entry-schema.ts).
 */
export interface FederationRecord {
  /** 0 = nothing was ever said; grows by exactly 1. */
  readonly epoch: number
  /** Ascending by `fromMs`; the last whose time has come is the one that is shown. */
  readonly keys: readonly FederationKey[]
  /** Ascending by region. */
  readonly peers: readonly FederationPeer[]
  /** Those that nobody has used yet. */
  readonly invitations: readonly FederationInvitation[]
  /** Policies that it offers to others, each name once; absent: none. */
  readonly publications?: readonly Publication[]
}

/** A key of this region. */
export interface FederationKey {
  /** Ed25519, 32 bytes in lower-case hex. */
  readonly publicKey: string
  /** The seed, sealed as the secrets of access keys are, under the public key as its name. */
  readonly sealedSeed: Uint8Array
  /** From when on it is shown: ms since the epoch. */
  readonly fromMs: number
}

/** A region that is trusted. */
export interface FederationPeer {
  readonly regionId: number
  readonly name: string
  /** Any of them proves it: while its key changes there are two. Never empty. */
  readonly publicKeys: readonly string[]
  /** `host:port` where it listens, in the order in which they are tried. Empty: it can only dial. */
  readonly endpoints: readonly string[]
  readonly joinedMs: number
  /** The newest of our keys that it has told it knows. */
  readonly knowsKey: string
  /** Digest of the invitation that it came with; empty on the side that was invited. */
  readonly invitation: string
  /** What is taken of it; absent: nothing. */
  readonly accepts?: readonly Acceptance[]
  /** Policies that it has offered, and what became of them here. */
  readonly taken?: readonly TakenPublication[]
}

export interface FederationInvitation {
  /** SHA-256 of its secret number in hex: the record does not tell what an invitation says. */
  readonly digest: string
  readonly expiresMs: number
  /** The only region that may use it; absent: any. */
  readonly regionId?: number
}

export const federationLimits = {
  keys: 3,
  peers: 64,
  invitations: 64,
  endpoints: 8,
  /** Characters of a region's name and of an endpoint. */
  name: 64,
  endpoint: 261,
} as const

/** What a region is before anything was said. */
export const noFederation: FederationRecord = { epoch: 0, keys: [], peers: [], invitations: [] }

/** Where the record is kept: the catalog in a node, memory in tests. */
export interface FederationStore {
  record(): FederationRecord
  /** CONFLICT when another change came first: read, decide and try again. */
  replace(next: FederationRecord): Promise<void>
}

/** What an operator asks: gRPC and the command line call this and nothing else. */
export interface FederationAdministration {
  status(): FederationStatus
  /** A new invitation, as text. INVALID_ARGUMENT when nobody could follow it: this region has no endpoint. */
  invite(request: InviteRequest): Promise<InviteReply>
  /** Follows an invitation. ACCESS_DENIED with the reason when it is not (or no more) one; PEER_UNREACHABLE. */
  join(token: string): Promise<PeerStatus>
  /** Trusts a region no more, from now on. INVALID_ARGUMENT when it is not joined. */
  revoke(regionId: number): Promise<void>
  /** Makes a new key, which peers are told of at once and which is shown after `afterMs`. CONFLICT while another one waits. */
  rotate(afterMs: number): Promise<FederationStatus>
}

export interface InviteRequest {
  readonly validMs: number
  /** The only region that may use it. */
  readonly regionId?: number
}

export interface InviteReply {
  readonly token: string
  readonly expiresMs: number
}

export interface FederationStatus {
  /** Whether the port for tunnels is open: from the first invitation on, where an address is configured. */
  readonly isListening: boolean
  readonly listen: string
  /** Why there is no port for tunnels where there should be one; otherwise empty. */
  readonly problem: string
  readonly endpoints: readonly string[]
  readonly regionId: number
  readonly name: string
  readonly keys: readonly KeyStatus[]
  readonly peers: readonly PeerStatus[]
  /** Not used yet. */
  readonly invitations: number
}

export interface KeyStatus {
  readonly publicKey: string
  readonly fromMs: number
  readonly isShown: boolean
}

export interface PeerStatus {
  readonly regionId: number
  readonly name: string
  readonly endpoints: readonly string[]
  readonly publicKeys: readonly string[]
  readonly joinedMs: number
  /** Whether it has told to know the newest of our keys. */
  readonly knowsNewestKey: boolean
  readonly isConnected: boolean
  /** Why there is no tunnel; empty while there is one. */
  readonly problem: string
  /** Of the tunnel that there is. */
  readonly tunnel?: {
    readonly backend: string
    readonly isDialed: boolean
    readonly sinceMs: number
    /** 0 = not measured yet. */
    readonly rttMs: number
    readonly bytesSent: number
    readonly bytesReceived: number
    readonly openStreams: number
  }
}
