/**
 * What policies decide, as the core sees it: plain numbers in, a decision out, at once and without failing. Whether a WASM
 * module, a fallback or both had a say is the host's business (`plugins/host`). Times are milliseconds, sizes bytes.
 *
 * Inputs are read during the call and not kept; decisions are valid until the next call of the same hook, so that a request
 * allocates nothing. Callers hand over finite numbers only.
 */
export interface PolicyDecisions {
  select(input: SelectInput): SelectDecision
  classify(input: ClassifyInput): ClassifyDecision
  admit(input: AdmitInput): AdmitDecision
  plan(input: PlanInput): PlanDecision
  resolve(input: ResolveInput): ResolveDecision
}

export type PolicyHook = keyof PolicyDecisions

/**
 * The decisions that stand when no policy decides: written in TypeScript, total, and never wrong about what is valid. The
 * part that owns a hook provides its fallback (core/qos, core/protocol, federation).
 */
export type PolicyFallbacks = PolicyDecisions

/** In every input: what makes a policy a pure function. */
export interface PolicyContext {
  /** Wall clock, ms since the epoch. */
  readonly nowMs: number
  /** ms since the epoch; 0 = none. */
  readonly deadlineMs: number
  /** 32 random bits, so that a policy can draw lots and a replay repeats them. */
  readonly seed: number
  /** Stable over the retries of one request: canaries split by it. */
  readonly requestHash: bigint
  /** Dense indexes into the tables that `pando_init` was handed; 0 = none or unknown. */
  readonly tenant: number
  readonly bucket: number
}

/** In every decision: where it came from, for metrics and `explain`. */
export interface PolicyOrigin {
  /** Name and version of the policy that decided, `fallback` when none did. */
  readonly policy: string
  /** The policy's own code, named in its manifest; 0 = no particular reason. */
  readonly reason: number
}

export type RequestOperation = 'read' | 'write' | 'delete' | 'list' | 'head' | 'copy' | 'other'

export interface ClassifyInput extends PolicyContext {
  readonly operation: RequestOperation
  /** Of the body; -1 = not known. */
  readonly byteLength: number
  /** UTF-8, the first 128 bytes of the key are looked at. */
  readonly key: string
  /** FNV-1a 32 of `name=value` of up to 8 attributes: what they are, the configuration says. */
  readonly attributes: Uint32Array
}

export interface ClassifyDecision extends PolicyOrigin {
  /** Index into the region's classes. */
  readonly classIndex: number
  /** 0 (last) to 255 (first), within the class. */
  readonly priority: number
}

export interface AdmitInput extends PolicyContext {
  readonly classIndex: number
  readonly operation: RequestOperation
  readonly byteLength: number
  /** What is left of the tightest budget that applies: requests, may be below 0; 1e9 = no budget. */
  readonly tokens: number
  /** Time until the budget has a token again; 0 = it has one. */
  readonly tokenWaitMs: number
  readonly queueDepth: number
  readonly inFlight: number
  readonly concurrencyLimit: number
  /** Latency of the class over the last seconds. */
  readonly p50Ms: number
  readonly p99Ms: number
  /** Target of the class; 0 = none. */
  readonly sloMs: number
  /** 0 to 1, of the concurrency limit. */
  readonly utilisation: number
}

export interface AdmitDecision extends PolicyOrigin {
  readonly verdict: 'admit' | 'delay' | 'shed'
  /** How long to wait before asking again (delay), or what Retry-After says (shed). */
  readonly delayMs: number
}

export interface PlanInput extends PolicyContext {
  readonly classes: readonly PlanClass[]
}

export interface PlanClass {
  readonly classIndex: number
  readonly backlogRequests: number
  readonly backlogBytes: number
  readonly requestsPerSecond: number
  readonly bytesPerSecond: number
  readonly p99Ms: number
  readonly sloMs: number
  /** As configured: what the policy starts from. */
  readonly weight: number
  readonly reservation: number
  readonly limit: number
}

export interface PlanDecision extends PolicyOrigin {
  /** One for each class of the input, in its order. */
  readonly classes: readonly PlannedClass[]
}

/**
 * What the schedulers enforce (mClock: Gulati et al., OSDI 2010). What is outside of `planBounds` counts as the nearest bound, so a
 * policy has no need to look at how small its numbers get.
 */
export interface PlannedClass {
  /** Share of what reservations leave; above 0. */
  readonly weight: number
  /** Cost units a second that the class gets in any case; 0 = none. One unit is one request of at most 4 KiB. */
  readonly reservation: number
  /** Cost units a second that it never exceeds; 0 = no limit. */
  readonly limit: number
  /** Cost units that may be taken at once after idleness. */
  readonly burst: number
}

export type TransportName = 'tcp' | 'rdma' | 'ipoib' | 'shm' | 'quic'

export interface SelectInput extends PolicyContext {
  readonly operation: RequestOperation
  readonly byteLength: number
  readonly sloMs: number
  readonly consistency: 'strong' | 'local'
  /** The candidate in use, -1 = none yet; with `currentForMs` the policy's hysteresis, as state lives in the host. */
  readonly currentIndex: number
  /** How long it has been in use; 0 without one. */
  readonly currentForMs: number
  readonly candidates: readonly TransportCandidate[]
}

export interface TransportCandidate {
  readonly transport: TransportName
  readonly state: 'up' | 'degraded' | 'down'
  /** 0 same host, 1 same rack, 2 same zone, 3 same region, 4 another region. */
  readonly distance: number
  readonly rttP50Ms: number
  readonly rttP99Ms: number
  readonly jitterMs: number
  /** 0 to 1. */
  readonly loss: number
  readonly bytesPerSecond: number
  readonly costPerGb: number
  readonly load: number
  readonly health: number
  readonly inFlight: number
}

export interface SelectDecision extends PolicyOrigin {
  /** Into the candidates. */
  readonly index: number
  /** -1 = none. */
  readonly fallbackIndex: number
  readonly parallel: number
  readonly chunkBytes: number
}

export interface ResolveInput extends PolicyContext {
  readonly versions: readonly [ConflictVersion, ConflictVersion]
}

/** One side of a conflict; metadata of both together at most 64 KiB. */
export interface ConflictVersion {
  readonly region: number
  /** Hybrid logical clock, as the catalog orders versions. */
  readonly hlc: bigint
  readonly byteLength: number
  readonly isDeleteMarker: boolean
  readonly etag: Uint8Array
  /** User metadata as JSON, UTF-8. */
  readonly metadata: Uint8Array
}

export interface ResolveDecision extends PolicyOrigin {
  readonly outcome: 'first' | 'second' | 'keep-both' | 'merge'
  /** UTF-8 JSON; only with `merge`. */
  readonly metadata?: Uint8Array
}
