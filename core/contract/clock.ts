/** Time and randomness come in from outside, so that one seed can reproduce a run. */
export interface Clock {
  /** Wall clock, milliseconds since the Unix epoch. May step in either direction. */
  now(): number
  /** Monotonic milliseconds from an arbitrary origin; never goes back. */
  monotonic(): number
  /** Resolves after `delayMs` or rejects with the signal's reason. */
  sleep(delayMs: number, signal?: AbortSignal): Promise<void>
}

export interface Randomness {
  /** Fills `target` with random bytes (cryptographic in production, seeded in simulation) and returns it. */
  fill(target: Uint8Array): Uint8Array
}

/** What the product may know of the world around the process. */
export interface Environment {
  readonly clock: Clock
  readonly randomness: Randomness
}
