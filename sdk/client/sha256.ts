import { utf8 } from './encoding.ts'
import { nodeAccelerators } from './environment.ts'

/**
 * SHA-256 (FIPS 180-4) and HMAC (FIPS 198-1). Long bodies: `digestBody`. What a signature needs is so short
 * that asking WebCrypto and waiting costs more than the digest, so that is done here. This also is what signs in a browser
 * page that is no secure context, where there is no WebCrypto.
 */

const round = new Int32Array(64)
const initial = new Int32Array(8)

// The constants are the fractional parts of roots of the first primes: computed, they cannot be mistyped.
for (let candidate = 2, found = 0; found < 64; candidate++) {
  let isPrime = true
  for (let factor = 2; factor * factor <= candidate; factor++) if (candidate % factor === 0) isPrime = false
  if (!isPrime) continue
  const fraction = (value: number): number => ((value - Math.floor(value)) * 0x1_0000_0000) | 0
  if (found < 8) initial[found] = fraction(Math.sqrt(candidate))
  round[found++] = fraction(Math.cbrt(candidate))
}

const schedule = new Int32Array(64)

function compress(state: Int32Array, bytes: Uint8Array, offset: number): void {
  const w = schedule
  for (let index = 0, at = offset; index < 16; index++, at += 4) {
    w[index] =
      ((bytes[at] ?? 0) << 24) |
      ((bytes[at + 1] ?? 0) << 16) |
      ((bytes[at + 2] ?? 0) << 8) |
      (bytes[at + 3] ?? 0)
  }
  for (let index = 16; index < 64; index++) {
    const a = w[index - 15] ?? 0
    const b = w[index - 2] ?? 0
    const s0 = ((a >>> 7) | (a << 25)) ^ ((a >>> 18) | (a << 14)) ^ (a >>> 3)
    const s1 = ((b >>> 17) | (b << 15)) ^ ((b >>> 19) | (b << 13)) ^ (b >>> 10)
    w[index] = ((w[index - 16] ?? 0) + s0 + (w[index - 7] ?? 0) + s1) | 0
  }
  let [a = 0, b = 0, c = 0, d = 0, e = 0, f = 0, g = 0, h = 0] = state
  for (let index = 0; index < 64; index++) {
    const s1 = ((e >>> 6) | (e << 26)) ^ ((e >>> 11) | (e << 21)) ^ ((e >>> 25) | (e << 7))
    const t1 = (h + s1 + ((e & f) ^ (~e & g)) + (round[index] ?? 0) + (w[index] ?? 0)) | 0
    const s0 = ((a >>> 2) | (a << 30)) ^ ((a >>> 13) | (a << 19)) ^ ((a >>> 22) | (a << 10))
    const t2 = (s0 + ((a & b) ^ (a & c) ^ (b & c))) | 0
    h = g
    g = f
    f = e
    e = (d + t1) | 0
    d = c
    c = b
    b = a
    a = (t1 + t2) | 0
  }
  state[0] = (state[0] ?? 0) + a
  state[1] = (state[1] ?? 0) + b
  state[2] = (state[2] ?? 0) + c
  state[3] = (state[3] ?? 0) + d
  state[4] = (state[4] ?? 0) + e
  state[5] = (state[5] ?? 0) + f
  state[6] = (state[6] ?? 0) + g
  state[7] = (state[7] ?? 0) + h
}

/** SHA-256 in JavaScript, at once: about 100 MB/s. */
export function sha256InJavaScript(bytes: Uint8Array): Uint8Array {
  const state = initial.slice()
  const whole = bytes.length - (bytes.length % 64)
  for (let offset = 0; offset < whole; offset += 64) compress(state, bytes, offset)
  const rest = bytes.length - whole
  const tail = new Uint8Array(rest < 56 ? 64 : 128)
  tail.set(bytes.subarray(whole))
  tail[rest] = 0x80
  const view = new DataView(tail.buffer)
  view.setUint32(tail.length - 8, Math.floor(bytes.length / 0x2000_0000))
  view.setUint32(tail.length - 4, (bytes.length * 8) >>> 0)
  for (let offset = 0; offset < tail.length; offset += 64) compress(state, tail, offset)
  const digest = new Uint8Array(32)
  const out = new DataView(digest.buffer)
  for (let index = 0; index < 8; index++) out.setInt32(index * 4, state[index] ?? 0)
  return digest
}

const { sha256: native, sha256OfLong } = nodeAccelerators()

/** SHA-256 of a few kilobytes, at once. */
export const sha256: (bytes: Uint8Array) => Uint8Array = native ?? sha256InJavaScript

/** Up to here the digest is quicker than handing the bytes to another thread. */
const digestNowBytes = native === undefined ? 4096 : 65_536

/**
 * SHA-256 of a body. A long one: in Node piece by piece on this thread, because WebCrypto copies what it is given (memory, and
 * more processor time than the hand-over saves); elsewhere by WebCrypto, off this thread, when there is one.
 */
export function digestBody(bytes: Uint8Array): Uint8Array | Promise<Uint8Array> {
  const subtle = globalThis.crypto?.subtle as SubtleCrypto | undefined
  if (bytes.length > digestNowBytes && sha256OfLong !== undefined) return sha256OfLong(bytes)
  if (bytes.length <= digestNowBytes || subtle === undefined) return sha256(bytes)
  return subtle.digest('SHA-256', bytes as Uint8Array<ArrayBuffer>).then((digest) => new Uint8Array(digest))
}

type SubtleCrypto = NonNullable<typeof globalThis.crypto>['subtle']

export function hmacSha256(key: Uint8Array, text: string): Uint8Array {
  const block = new Uint8Array(64)
  block.set(key.length > 64 ? sha256(key) : key)
  const message = utf8(text)
  const inner = new Uint8Array(64 + message.length)
  const outer = new Uint8Array(96)
  for (let index = 0; index < 64; index++) {
    inner[index] = (block[index] ?? 0) ^ 0x36
    outer[index] = (block[index] ?? 0) ^ 0x5c
  }
  inner.set(message, 64)
  outer.set(sha256(inner), 64)
  return sha256(outer)
}
