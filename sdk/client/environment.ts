import type { HttpAnswer } from './http-answer.ts'
import { nodeFetch } from './node-http.ts'

/**
 * What the client may know of the world around it. The one file of the SDK that touches the real clock, the real
 * randomness and the real network; tests hand in their own.
 */
export interface ClientEnvironment {
  /** Wall clock, milliseconds since the Unix epoch. */
  now(): number
  /** Milliseconds that never go back. */
  monotonic(): number
  /** Calls back once after `delayMs`, which may be Infinity; the function returned cancels that. */
  after(delayMs: number, callback: () => void): () => void
  /** From 0 up to, not including, 1. Spreads retries; nothing secret depends on it. */
  random(): number
  /** Sends one request. Of `init` are given: method, headers (a record), body (bytes), signal, redirect, credentials, cache. */
  fetch(url: string, init: RequestInit): Promise<HttpAnswer>
}

const overNode = nodeFetch()
/** 24.8 days. Of a longer delay `setTimeout` makes 1 ms. */
const longestTimerMs = 2 ** 31 - 1

export const webEnvironment: ClientEnvironment = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  after(delayMs, callback) {
    const timer = setTimeout(callback, Math.min(delayMs, longestTimerMs))
    return () => clearTimeout(timer)
  },
  random: () => Math.random(),
  fetch: overNode ?? ((url, init) => fetch(url, init)),
}

/** Resolves after `delayMs`, or rejects with the signal's reason. */
export function sleep(
  environment: Pick<ClientEnvironment, 'after'>,
  delayMs: number,
  signal?: AbortSignal,
): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted === true) {
      reject(signal.reason)
      return
    }
    const onAbort = (): void => {
      cancel()
      reject(signal?.reason)
    }
    const cancel = environment.after(delayMs, () => {
      signal?.removeEventListener('abort', onAbort)
      resolve()
    })
    signal?.addEventListener('abort', onAbort, { once: true })
  })
}

/**
 * Node's faster versions of what is here in JavaScript too. They are asked for at run time and never imported, so a bundle
 * for browsers has none of them; before Node 20.16 there is no such question, and the JavaScript does the work.
 */
export interface NodeAccelerators {
  readonly crc32: ((data: Uint8Array, value?: number) => number) | undefined
  readonly sha256: ((data: Uint8Array) => Uint8Array) | undefined
  /** Of long bodies: piece by piece, and what else waits gets its turn between two of them. */
  readonly sha256OfLong: ((data: Uint8Array) => Promise<Uint8Array>) | undefined
}

interface NodeProcess {
  getBuiltinModule?(id: string): unknown
}
/** Under a millisecond of one processor. */
const hashedAtOnce = 1024 * 1024

interface NodeHash {
  update(data: Uint8Array): NodeHash
  digest(): Uint8Array
}

export function nodeAccelerators(): NodeAccelerators {
  const { process, setImmediate } = globalThis as {
    process?: NodeProcess
    setImmediate?: (callback: () => void) => void
  }
  const builtin = (id: string): unknown => process?.getBuiltinModule?.(id)
  const zlib = builtin('node:zlib') as { crc32?(data: Uint8Array, value?: number): number } | undefined
  const crypto = builtin('node:crypto') as { createHash?(name: string): NodeHash } | undefined
  const createHash = crypto?.createHash
  return {
    crc32: zlib?.crc32,
    sha256: createHash === undefined ? undefined : (data) => createHash('sha256').update(data).digest(),
    sha256OfLong:
      createHash === undefined || setImmediate === undefined
        ? undefined
        : async (data) => {
            const hash = createHash('sha256')
            for (let at = 0; at < data.length; at += hashedAtOnce) {
              if (at > 0) await new Promise<void>((resolve) => setImmediate(resolve))
              hash.update(data.subarray(at, at + hashedAtOnce))
            }
            return hash.digest()
          },
  }
}
