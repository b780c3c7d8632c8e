import { createHash } from 'node:crypto'
import { seededBytes } from '../../kit/seeded-bytes.ts'

/** Bytes that can be made again, and the ETag that S3 gives them. */
export interface Content {
  /** One seed and length for each part; a simple object has one. */
  readonly parts: readonly { readonly seed: string; readonly byteLength: number }[]
  readonly etag: string
  readonly byteLength: number
}

export function simpleContent(seed: string, byteLength: number): Content {
  const bytes = seededBytes(seed, 0, byteLength)
  const etag = createHash('md5').update(bytes).digest('hex')
  const content = { parts: [{ seed, byteLength }], etag, byteLength }
  newest = { content, bytes }
  return content
}

/** Whoever makes a content sends it at once: its bytes are made once for both. */
let newest: { readonly content: Content; readonly bytes: Buffer } | undefined

export function multipartContent(parts: Content['parts']): Content {
  const whole = createHash('md5')
  let byteLength = 0
  for (const part of parts) {
    whole.update(
      createHash('md5')
        .update(seededBytes(part.seed, 0, part.byteLength))
        .digest(),
    )
    byteLength += part.byteLength
  }
  return { parts, etag: `${whole.digest('hex')}-${parts.length}`, byteLength }
}

/** Not to be changed. */
export function bytesOf(content: Content): Buffer {
  if (newest?.content === content) return newest.bytes
  const [first, ...others] = content.parts
  if (first !== undefined && others.length === 0) return seededBytes(first.seed, 0, first.byteLength)
  return Buffer.concat(content.parts.map(({ seed, byteLength }) => seededBytes(seed, 0, byteLength)))
}

/**
 * What the service has promised about each key. A key is written by one client at a time, so its state is one value, or
 * two while an operation has been sent and not answered: old or new, nothing else.
 */
export interface Ledger {
  /** A write (or, with null, a delete) is about to be sent. */
  begin(key: string, value: Content | null): void
  /** It was answered with success: from here on the old value must never be seen again. */
  acknowledge(key: string, value: Content | null): void
  /** It was answered with an error that promises no effect. */
  refuse(key: string, value: Content | null): void
  /** The values that a reader may see now. */
  possible(key: string): readonly (Content | null)[]
  /** After a restart nothing is in flight: what was read is what is. */
  settle(key: string, value: Content | null): void
  keys(): readonly string[]
  readonly acknowledged: number
}

export function openLedger(): Ledger {
  const values = new Map<string, (Content | null)[]>()
  let acknowledged = 0
  const possible = (key: string): (Content | null)[] => values.get(key) ?? [null]
  return {
    begin: (key, value) => void values.set(key, [...possible(key), value]),
    acknowledge(key, value) {
      values.set(key, [value])
      acknowledged++
    },
    refuse(key, value) {
      const left = [...possible(key)]
      left.splice(left.lastIndexOf(value), 1)
      values.set(key, left)
    },
    possible,
    settle: (key, value) => void values.set(key, [value]),
    keys: () => [...values.keys()].sort(),
    get acknowledged() {
      return acknowledged
    },
  }
}
