import { endIteration } from './aborts.ts'
import { joined } from './answers.ts'
import { utf8 } from './encoding.ts'
import { invalidArgument } from './errors.ts'

/**
 * What can be put. Bytes must not change until the call has ended. A Blob or File is read piece by piece (in Node,
 * `fs.openAsBlob(path)` makes one of a file); streams and iterables are read once, and no faster than they are sent.
 */
export type PutBody =
  | string
  | ArrayBuffer
  | ArrayBufferView
  | Blob
  | ReadableStream<Uint8Array>
  | AsyncIterable<Uint8Array | string>
  | Iterable<Uint8Array | string>

/** The bytes of an upload, taken in pieces as they are sent. */
export interface PutSource {
  /** Undefined: known only at the end. */
  readonly size: number | undefined
  /** Of a Blob or File. */
  readonly contentType: string | undefined
  /** The next `maxBytes`, or fewer at the end; `last` says that no more will come. */
  read(maxBytes: number): Promise<{ readonly bytes: Uint8Array; readonly last: boolean }>
  /** No more is wanted. Who cancels does not wait until the source has ended, which it may never do. */
  cancel(reason: unknown): void
}

/** Throws InvalidArgument. */
export function openSource(body: PutBody): PutSource {
  if (typeof body === 'string') return bytesSource(utf8(body))
  if (body instanceof Uint8Array) return bytesSource(body)
  if (body instanceof ArrayBuffer) return bytesSource(new Uint8Array(body))
  if (ArrayBuffer.isView(body))
    return bytesSource(new Uint8Array(body.buffer, body.byteOffset, body.byteLength))
  if (body instanceof Blob) return blobSource(body)
  if (body instanceof ReadableStream) return streamSource(body)
  if (Symbol.asyncIterator in body) return iterableSource(body[Symbol.asyncIterator]())
  if (Symbol.iterator in body) return iterableSource(body[Symbol.iterator]())
  throw invalidArgument('a body is a string, bytes, a Blob, a stream or an iterable of bytes')
}

function bytesSource(whole: Uint8Array): PutSource {
  let at = 0
  return {
    size: whole.length,
    contentType: undefined,
    async read(maxBytes) {
      const bytes = whole.subarray(at, at + maxBytes)
      at += bytes.length
      return { bytes, last: at >= whole.length }
    },
    cancel() {},
  }
}

function blobSource(blob: Blob): PutSource {
  let at = 0
  return {
    size: blob.size,
    contentType: blob.type === '' ? undefined : blob.type,
    async read(maxBytes) {
      const bytes = new Uint8Array(await blob.slice(at, at + maxBytes).arrayBuffer())
      at += bytes.length
      return { bytes, last: at >= blob.size }
    },
    cancel() {},
  }
}

type NextPiece = () => Promise<Uint8Array | undefined>

function streamSource(stream: ReadableStream<Uint8Array>): PutSource {
  const reader = stream.getReader()
  const next: NextPiece = async () => {
    const { done, value } = await reader.read()
    if (done) reader.releaseLock()
    return done ? undefined : pieceOf(value)
  }
  return pulledSource(next, (reason) => {
    // By its reader: a stream that is locked cannot be cancelled. One that fails while it is told to stop changes nothing any more.
    reader.cancel(reason).catch(() => {})
  })
}

function iterableSource(
  iterator: AsyncIterator<Uint8Array | string> | Iterator<Uint8Array | string>,
): PutSource {
  const next: NextPiece = async () => {
    const { done, value } = await iterator.next()
    return done === true ? undefined : pieceOf(value)
  }
  return pulledSource(next, () => endIteration(iterator))
}

function pieceOf(value: unknown): Uint8Array {
  if (value instanceof Uint8Array) return value
  if (typeof value === 'string') return utf8(value)
  throw invalidArgument('a stream or iterable of a body brings Uint8Array or string')
}

function pulledSource(next: NextPiece, cancel: (reason: unknown) => void): PutSource {
  let rest: Uint8Array | undefined
  let ended = false
  return {
    size: undefined,
    contentType: undefined,
    async read(maxBytes) {
      const pieces: Uint8Array[] = []
      let length = 0
      // One byte further than asked for: whether a part is the last one must be known when it is sent.
      while (!ended && length <= maxBytes) {
        const piece = rest ?? (await next())
        rest = undefined
        if (piece === undefined) ended = true
        else if (piece.length > 0) {
          pieces.push(piece)
          length += piece.length
        }
      }
      if (length <= maxBytes) return { bytes: joined(pieces, length), last: true }
      const last = pieces.pop() ?? new Uint8Array()
      const keep = maxBytes - (length - last.length)
      rest = last.subarray(keep)
      if (keep > 0) pieces.push(last.subarray(0, keep))
      return { bytes: joined(pieces, maxBytes), last: false }
    },
    cancel(reason) {
      if (ended) return
      ended = true
      cancel(reason)
    },
  }
}
