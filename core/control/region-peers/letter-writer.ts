import { encodeParcel, type Letter, letterBytes } from './wire.ts'

/** The end of a call that letters go into: grpc-js's, as far as it is used. */
export interface ParcelSink {
  write(parcel: Buffer, done: () => void): boolean
}

export interface LetterWriter {
  readonly queuedBytes: number
  /** False when the queue is full: the letter is not taken. */
  push(letter: Letter): boolean
  /** Nothing is written any more. */
  stop(): void
}

/** A parcel is closed behind the letter that takes it over this. */
const parcelBytes = 512 * 1024

/**
 * Letters in order, all that came in one turn of the event loop in one parcel; the next parcel goes out when the transport has
 * taken the one before, so that what waits is here, where it is bounded, and not in the transport.
 */
export function createLetterWriter(sink: ParcelSink, maxQueuedBytes: number): LetterWriter {
  let queue: Letter[] = []
  let queuedBytes = 0
  let isScheduled = false
  let isWriting = false
  let isStopped = false

  const flush = (): void => {
    isScheduled = false
    if (isStopped || isWriting || queue.length === 0) return
    let count = 0
    let bytes = 0
    while (count < queue.length && bytes < parcelBytes) {
      const letter = queue[count]
      if (letter === undefined) break
      bytes += letterBytes(letter)
      count++
    }
    const letters = count === queue.length ? queue : queue.slice(0, count)
    queue = count === queue.length ? [] : queue.slice(count)
    queuedBytes -= bytes
    isWriting = true
    sink.write(encodeParcel(letters), () => {
      isWriting = false
      flush()
    })
  }

  return {
    get queuedBytes() {
      return queuedBytes
    },
    push(letter) {
      const bytes = letterBytes(letter)
      // One letter always fits, or a bound below a letter's size would stop everything.
      if (queuedBytes > 0 && queuedBytes + bytes > maxQueuedBytes) return false
      queue.push(letter)
      queuedBytes += bytes
      if (!isScheduled && !isWriting) {
        isScheduled = true
        setImmediate(flush)
      }
      return true
    },
    stop() {
      isStopped = true
      queue = []
      queuedBytes = 0
    },
  }
}
