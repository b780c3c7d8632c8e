import type { ScrubFinding } from '../../core/contract/chunk-store.ts'
import { StorageError } from '../../core/contract/errors.ts'
import { maxChunkBytes } from '../../core/contract/ids.ts'
import type { Logger } from '../../core/contract/logger.ts'
import { crc32c } from '../crc.ts'
import { ChunkIndex, keyOf } from './chunk-index.ts'
import type { Directory } from './file-system.ts'
import { LogSegment, type SegmentScan, scanSegment, segmentName, segmentNumber } from './log-segment.ts'
import { decodeFileHeader, fileHeaderBytes, headerBytes, payloadOffset, type RecordHeader } from './record.ts'

export interface RecoveredStore {
  readonly segments: Map<number, LogSegment>
  readonly index: ChunkIndex
  readonly damage: ScrubFinding[]
  readonly storeId: Uint8Array | null
  readonly nextSequence: number
}

interface OpenedSegment {
  readonly segment: LogSegment
  readonly fileSize: number
  readonly firstSequence: number
}

/**
 * Builds the index from the log. A damaged place is a torn tail, and cut off, only if no sound record behind it says
 * that it had been durable: then it was never acknowledged. Otherwise it is corruption: kept, counted and reported.
 */
export async function recover(directory: Directory, log: Logger): Promise<RecoveredStore> {
  const damage: ScrubFinding[] = []
  const { opened, storeId } = await openSegments(directory, damage, log)
  const index = new ChunkIndex()
  const segments = new Map<number, LogSegment>()
  const storeSeed = storeId ? crc32c(storeId) : 0
  let nextSequence = 1
  for (const { segment, fileSize, firstSequence } of opened) {
    let scan = await scanSegment(segment, fileSize, firstSequence, storeSeed)
    segment.size = fileSize
    if (segment === opened.at(-1)?.segment) scan = await cutTornTail(segment, fileSize, scan, log)
    for (const gap of scan.gaps) {
      segment.damaged = true
      const detail = `${segmentName(segment.number)} bytes ${gap.from} to ${gap.to} hold no record`
      damage.push({ problem: 'corrupt-header', detail })
      log.error({ segment: segment.number, from: gap.from, to: gap.to }, 'the chunk log is damaged')
    }
    for (const record of scan.records) apply(index, segment, record)
    segments.set(segment.number, segment)
    nextSequence = Math.max(nextSequence, firstSequence, (scan.records.at(-1)?.sequence ?? 0) + 1)
  }
  return { segments, index, damage, storeId, nextSequence }
}

function apply(index: ChunkIndex, segment: LogSegment, record: RecordHeader): void {
  const key = keyOf(record.id)
  if (record.kind === 'delete') {
    index.delete(key)
    segment.tombstoneBytes += headerBytes
  }
  if (record.kind !== 'put') return
  const { offset, byteLength, crc, tableCrc } = record
  index.set(key, { segment, offset, byteLength, crc, tableCrc })
}

async function openSegments(directory: Directory, damage: ScrubFinding[], log: Logger) {
  const opened: OpenedSegment[] = []
  const names = await directory.list()
  const numbers = names.flatMap((name) => segmentNumber(name) ?? []).sort((a, b) => a - b)
  let storeId: Uint8Array | null = null
  for (const number of numbers) {
    const name = segmentName(number)
    const file = await directory.open(name)
    const bytes = Buffer.alloc(fileHeaderBytes)
    const fileSize = (await file.read(bytes, 0)) < fileHeaderBytes ? 0 : await file.size()
    const header = decodeFileHeader(bytes)
    if (header === 'unsupported') {
      throw new StorageError('UNSUPPORTED_FORMAT', `${name} was written by a newer version`)
    }
    if (
      header &&
      header.fileNumber === number &&
      (!storeId || Buffer.compare(storeId, header.storeId) === 0)
    ) {
      storeId = header.storeId
      opened.push({
        segment: new LogSegment(number, file, fileSize),
        fileSize,
        firstSequence: header.firstSequence,
      })
      continue
    }
    await file.close()
    if (fileSize <= fileHeaderBytes && number === numbers.at(-1)) {
      // The process died while it created the segment; nothing was ever acknowledged in it.
      log.info({ segment: number }, 'removed a segment that was never completed')
      await directory.remove(name)
      continue
    }
    damage.push({
      problem: 'corrupt-header',
      detail: `${name} has a damaged file header; its chunks are not served`,
    })
    log.error({ segment: number }, 'a segment of the chunk log has a damaged file header')
  }
  return { opened, storeId }
}

async function cutTornTail(
  segment: LogSegment,
  fileSize: number,
  scan: SegmentScan,
  log: Logger,
): Promise<SegmentScan> {
  const knownDurable = scan.records.at(-1)?.durableSequence ?? 0
  let cut = scan.gaps.find((gap) => gap.sequence > knownDurable)?.from ?? fileSize
  const payload = Buffer.alloc(maxChunkBytes)
  for (const record of scan.records) {
    if (record.sequence <= knownDurable || record.offset >= cut) continue
    if (await isPayloadSound(segment, record, payload)) continue
    cut = record.offset
    break
  }
  if (cut < fileSize) {
    log.warn(
      { segment: segment.number, from: cut, byteLength: fileSize - cut },
      'cut off the end of the chunk log: its last writes were interrupted and had not been acknowledged',
    )
    await segment.file.truncate(cut)
    await segment.file.sync()
    segment.size = cut
  }
  return {
    records: scan.records.filter((record) => record.offset < cut),
    gaps: scan.gaps.filter((gap) => gap.from < cut),
  }
}

async function isPayloadSound(segment: LogSegment, record: RecordHeader, scratch: Buffer): Promise<boolean> {
  const tableBytes = payloadOffset(record.byteLength) - payloadOffset(0)
  const table = scratch.subarray(0, tableBytes)
  const tableAt = record.offset + payloadOffset(0)
  if ((await segment.read(table, tableAt)) < tableBytes) return false
  if (tableBytes > 0 && crc32c(table) !== record.tableCrc) return false
  const payload = scratch.subarray(0, record.byteLength)
  const read = await segment.read(payload, record.offset + payloadOffset(record.byteLength))
  return read === record.byteLength && crc32c(payload) === record.crc
}
