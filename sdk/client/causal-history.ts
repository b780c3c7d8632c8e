import { invalidArgument } from './errors.ts'

/**
 * What the client has seen of buckets that several regions hold, as their gateways told it in tokens. The form of a token is theirs
 * (core/gateway/s3/causal-token.ts); here tokens of answers that came side by side are joined, which takes their places apart.
 */

const format = 1
const logBytes = 12
const placeBytes = 2 + 6 + logBytes + 6
const mostPlaces = 16
/** More buckets than this are forgotten again, the longest unused first. */
const mostBuckets = 4096

interface ReadToken {
  readonly bucket: string
  /** Log id -> the bytes of its place. */
  readonly places: ReadonlyMap<string, Uint8Array>
}

export class CausalHistory {
  readonly #tokens = new Map<string, string>()

  of(bucket: string | undefined): string | undefined {
    return bucket === undefined ? undefined : this.#tokens.get(bucket)
  }

  /** Of an answer to a request that brought `sent`: it says all that the request had asked for, and more. */
  learn(bucket: string, told: string, sent: string | undefined): void {
    const known = this.#tokens.get(bucket)
    // What other answers have told meanwhile is not in this one.
    const next = known === undefined || known === sent || known === told ? told : joined(told, known, sent)
    this.#tokens.delete(bucket)
    this.#tokens.set(bucket, next)
    const [oldest] = this.#tokens.keys()
    if (this.#tokens.size > mostBuckets && oldest !== undefined) this.#tokens.delete(oldest)
  }

  /** From elsewhere: another process, a server, a page. InvalidArgument for what is no token. */
  adopt(token: string): void {
    const { bucket } = readToken(token)
    const known = this.#tokens.get(bucket)
    this.learn(bucket, known === undefined ? token : joined(token, known, undefined), known)
  }

  /** What was named cannot be had any more: it has been said, and is not asked for again. */
  forget(bucket: string, sent: string): void {
    if (this.#tokens.get(bucket) === sent) this.#tokens.delete(bucket)
  }
}

export const bucketOfToken = (token: string): string => readToken(token).bucket

/** Both, without what only `covered` named. */
function joined(token: string, other: string, covered: string | undefined): string {
  const { bucket, places } = readToken(token)
  const done = covered === undefined ? undefined : readToken(covered).places
  const all = new Map(places)
  for (const [log, place] of readToken(other).places) {
    const mine = all.get(log)
    if (mine === undefined) {
      const before = done?.get(log)
      if (before === undefined || lsnOf(place) > lsnOf(before)) all.set(log, place)
    } else if (lsnOf(place) > lsnOf(mine)) all.set(log, place)
  }
  const newest = [...all].sort(([, a], [, b]) => epochOf(b) - epochOf(a)).slice(0, mostPlaces)
  return writeToken(bucket, newest)
}

const numberAt = (bytes: Uint8Array, at: number): number => {
  let value = 0
  for (let index = at; index < at + 6; index++) value = value * 256 + (bytes[index] ?? 0)
  return value
}
const epochOf = (place: Uint8Array): number => numberAt(place, 2)
const lsnOf = (place: Uint8Array): number => numberAt(place, 8 + logBytes)

function writeToken(bucket: string, places: readonly (readonly [string, Uint8Array])[]): string {
  const name = new TextEncoder().encode(bucket)
  const sorted = [...places].sort(([a], [b]) => (a < b ? -1 : 1))
  let text = String.fromCharCode(format, name.length, ...name, sorted.length)
  for (const [, place] of sorted) text += String.fromCharCode(...place)
  return btoa(text).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '')
}

function readToken(token: string): ReadToken {
  let text: string
  try {
    text = atob(token.replaceAll('-', '+').replaceAll('_', '/'))
  } catch {
    throw notOne()
  }
  const bytes = Uint8Array.from(text, (character) => character.charCodeAt(0))
  const nameEnd = 2 + (bytes[1] ?? 0)
  const count = bytes[nameEnd] ?? 0
  if (bytes[0] !== format || count === 0 || bytes.length !== nameEnd + 1 + count * placeBytes) throw notOne()
  const places = new Map<string, Uint8Array>()
  for (let at = nameEnd + 1; at < bytes.length; at += placeBytes) {
    // As text: its order is that of the bytes.
    places.set(text.slice(at + 8, at + 8 + logBytes), bytes.subarray(at, at + placeBytes))
  }
  return { bucket: new TextDecoder().decode(bytes.subarray(2, nameEnd)), places }
}

const notOne = (): Error => invalidArgument('that is no causal token of this version')
