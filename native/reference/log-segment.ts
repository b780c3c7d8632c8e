import type { Directory, LogFile } from './file-system.ts'
import {
  alignment,
  decodeRecord,
  fileHeaderBytes,
  headerBytes,
  type RecordHeader,
  recordBytes,
  startsRecord,
} from './record.ts'

const nameShape = /^chunks-(\d{8})\.log$/

export function segmentName(number: number): string {
  return `chunks-${String(number).padStart(8, '0')}.log`
}

export function segmentNumber(name: string): number | null {
  const match = nameShape.exec(name)
  return match ? Number(match[1]) : null
}

/** One log file: its size, how much of it is live, and how many readers hold it open. */
export class LogSegment {
  readonly number: number
  readonly file: LogFile
  /** End of the last whole record. */
  size: number
  /** Bytes of records that the index points at. */
  liveRecordBytes = 0
  /** Holds damage that a copy of the live records would lose track of: never collected. */
  damaged = false
  /** Bytes of delete records; they must outlive the puts of older segments. */
  tombstoneBytes = 0
  #readers = 0
  #onIdle: (() => void) | undefined

  constructor(number: number, file: LogFile, size: number) {
    this.number = number
    this.file = file
    this.size = size
  }

  addLive(payloadBytes: number): void {
    this.liveRecordBytes += recordBytes(payloadBytes)
  }

  removeLive(payloadBytes: number): void {
    this.liveRecordBytes -= recordBytes(payloadBytes)
  }

  get staleBytes(): number {
    return this.size - fileHeaderBytes - this.liveRecordBytes
  }

  async read(target: Uint8Array, position: number): Promise<number> {
    this.#readers++
    try {
      return await this.file.read(target, position)
    } finally {
      this.#readers--
      if (this.#readers === 0) this.#onIdle?.()
    }
  }

  async #idle(): Promise<void> {
    if (this.#readers > 0) await new Promise<void>((resolve) => (this.#onIdle = resolve))
  }

  async close(): Promise<void> {
    await this.#idle()
    await this.file.close()
  }

  /** Removes the name at once; the bytes go when the last reader is done. */
  async remove(directory: Directory): Promise<void> {
    await directory.remove(segmentName(this.number))
    await this.close()
  }
}

/** A stretch that should have held records and does not. */
export interface LogGap {
  readonly from: number
  readonly to: number
  /** The sequence that the record at `from` would have had. */
  readonly sequence: number
}

export interface SegmentScan {
  readonly records: readonly RecordHeader[]
  readonly gaps: readonly LogGap[]
}

/**
 * All records of a segment by their headers; payloads are skipped. Behind a damaged header it goes on at the next
 * place that holds a valid one.
 */
export async function scanSegment(
  segment: LogSegment,
  fileSize: number,
  firstSequence: number,
  storeSeed: number,
): Promise<SegmentScan> {
  const records: RecordHeader[] = []
  const gaps: LogGap[] = []
  const window = new Window(segment, fileSize)
  let expected = firstSequence
  let at = fileHeaderBytes
  const headerAt = async (offset: number): Promise<RecordHeader | null> => {
    const bytes = await window.at(offset)
    const header = bytes && decodeRecord(bytes, { fileNumber: segment.number, offset, storeSeed })
    if (!header || header.sequence < expected) return null
    return offset + recordBytes(header.byteLength) <= fileSize ? header : null
  }
  while (at < fileSize) {
    let header = await headerAt(at)
    if (header && header.sequence > expected) gaps.push({ from: at, to: at, sequence: expected })
    if (!header) {
      const from = at
      while (!header && at < fileSize) {
        at = await window.nextCandidate(at + alignment)
        header = await headerAt(at)
      }
      gaps.push({ from, to: at, sequence: expected })
      if (!header) break
    }
    records.push(header)
    expected = header.sequence + 1
    at += recordBytes(header.byteLength)
  }
  return { records, gaps }
}

/** Reads ahead: little while payloads are jumped over, much while records are close together or one is searched for. */
class Window {
  readonly #segment: LogSegment
  readonly #fileSize: number
  readonly #buffer = Buffer.allocUnsafe(64 * 1024)
  #start = 0
  #length = 0

  constructor(segment: LogSegment, fileSize: number) {
    this.#segment = segment
    this.#fileSize = fileSize
  }

  /** The bytes of a header at the offset; null where the file ends before. */
  async at(offset: number): Promise<Buffer | null> {
    if (offset + headerBytes > this.#fileSize) return null
    if (offset < this.#start || offset + headerBytes > this.#start + this.#length) {
      const isNear = offset - (this.#start + this.#length) < this.#buffer.length
      await this.#load(offset, isNear ? this.#buffer.length : 4096)
      if (this.#length < headerBytes) return null
    }
    const from = offset - this.#start
    return this.#buffer.subarray(from, from + headerBytes)
  }

  /** The first aligned offset at or behind `from` where a record might begin, or the end of the file. */
  async nextCandidate(from: number): Promise<number> {
    for (let at = from; at + headerBytes <= this.#fileSize; ) {
      if (at < this.#start || at + 4 > this.#start + this.#length) await this.#load(at, this.#buffer.length)
      const end = this.#start + this.#length - 4
      if (end < at) break
      for (; at <= end; at += alignment) {
        if (startsRecord(this.#buffer, at - this.#start)) return at
      }
    }
    return this.#fileSize
  }

  async #load(offset: number, byteLength: number): Promise<void> {
    this.#start = offset
    this.#length = await this.#segment.read(this.#buffer.subarray(0, byteLength), offset)
  }
}
