import type { Clock } from '../contract/clock.ts'
import { StorageError } from '../contract/errors.ts'

/** From one address: so many at once, then one in `refillMs`. */
const burst = 10
const refillMs = 6_000
/** From all addresses together: what a guesser with many of them gets in a second. */
const allBurst = 200
const allRefillMs = 50
const maxAddresses = 4_096

interface Bucket {
  spent: number
  atMs: number
}

/** Log-ins that failed, by address: guessing is slow, and a flood from one address does not shut out the others. */
export class FailureBudget {
  readonly #clock: Clock
  readonly #buckets = new Map<string, Bucket>()
  readonly #all: Bucket

  constructor(clock: Clock) {
    this.#clock = clock
    this.#all = { spent: 0, atMs: clock.monotonic() }
  }

  /** OVERLOADED, with the time until another try. */
  check(address: string): void {
    const bucket = this.#buckets.get(networkOf(address))
    const waitMs = Math.max(
      bucket === undefined ? 0 : this.#waitMs(bucket, burst, refillMs),
      this.#waitMs(this.#all, allBurst, allRefillMs),
    )
    if (waitMs === 0) return
    const seconds = Math.ceil(waitMs / 1000)
    throw new StorageError('OVERLOADED', `too many failed log-ins: try again in ${seconds} s`, {
      retryAfterMs: waitMs,
    })
  }

  failed(address: string): void {
    const network = networkOf(address)
    const bucket = this.#buckets.get(network) ?? { spent: 0, atMs: this.#clock.monotonic() }
    this.#spend(bucket, refillMs)
    this.#spend(this.#all, allRefillMs)
    this.#buckets.delete(network)
    this.#buckets.set(network, bucket)
    if (this.#buckets.size > maxAddresses) {
      const [oldest] = this.#buckets.keys()
      if (oldest !== undefined) this.#buckets.delete(oldest)
    }
  }

  #spend(bucket: Bucket, everyMs: number): void {
    const now = this.#clock.monotonic()
    bucket.spent = Math.max(0, bucket.spent - (now - bucket.atMs) / everyMs) + 1
    bucket.atMs = now
  }

  #waitMs({ spent, atMs }: Bucket, most: number, everyMs: number): number {
    const left = spent - (this.#clock.monotonic() - atMs) / everyMs
    return left <= most - 1 ? 0 : (left - (most - 1)) * everyMs
  }
}

/** One IPv6 host has a /64 of addresses. */
export function networkOf(address: string): string {
  if (!address.includes(':') || address.startsWith('::ffff:')) return address
  const [head = '', tail] = address.split('%', 1)[0]?.split('::') ?? []
  const before = head === '' ? [] : head.split(':')
  const after = tail === undefined || tail === '' ? [] : tail.split(':')
  const zeros =
    tail === undefined ? [] : Array<string>(Math.max(0, 8 - before.length - after.length)).fill('0')
  return [...before, ...zeros, ...after].slice(0, 4).join(':')
}
