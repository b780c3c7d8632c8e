import { createHash } from 'node:crypto'
import { StorageError } from '../../contract/errors.ts'
import { after, table } from '../keys.ts'
import { rowKey, rowValue, type TableReader } from '../tables.ts'
import { joinBytes } from '../writer-protocol.ts'

/**
 * A copy of all rows as it travels: pieces of joined keys and values in turn, each behind a byte 00, and behind a byte 01 the SHA-256
 * over all pieces before. What is longer than a message may be, since one row is, comes behind a byte 02, and its end behind a 00.
 * The row of the replica itself is left out: its promises are not the other's.
 */
const rowsPiece = 0
const endPiece = 1
const startPiece = 2
const pieceBytes = 256 * 1024
/** What peers take as one message is a byte more at least. */
const mostPieceBytes = 1000 * 1024
/** Of one row in pieces: more than any has. */
const mostRowBytes = 64 * 1024 * 1024

export async function* copyRows(reader: TableReader, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  const hash = createHash('sha256')
  let start: Uint8Array = Uint8Array.of(0)
  for (;;) {
    signal.throwIfAborted()
    const parts: Uint8Array[] = []
    let bytes = 0
    const cursor = reader.rows(start, Uint8Array.of(0xff))
    let isEnd = true
    while (cursor.next()) {
      const key = rowKey(cursor)
      if (key[0] === table.replica) continue
      const value = rowValue(cursor)
      parts.push(key, value)
      bytes += key.length + value.length + 8
      if (bytes < pieceBytes) continue
      cursor.close()
      start = after(key)
      isEnd = false
      break
    }
    if (parts.length > 0) {
      const joined = new Uint8Array(joinBytes(parts))
      hash.update(joined)
      let at = 0
      for (; joined.length - at > mostPieceBytes; at += mostPieceBytes)
        yield framed(startPiece, joined.subarray(at, at + mostPieceBytes))
      yield framed(rowsPiece, joined.subarray(at))
    }
    if (isEnd) break
  }
  yield framed(endPiece, hash.digest())
}

/** The joined rows of each piece; PROTOCOL_ERROR when the copy is not whole. */
export async function* readCopy(pieces: AsyncIterable<Uint8Array>): AsyncGenerator<ArrayBuffer> {
  const hash = createHash('sha256')
  let isWhole = false
  let begun: Uint8Array[] = []
  let begunBytes = 0
  for await (const piece of pieces) {
    const body = piece.slice(1)
    const isKnown = piece[0] === rowsPiece || piece[0] === endPiece || piece[0] === startPiece
    if (isWhole || !isKnown || (piece[0] === endPiece && begun.length > 0)) {
      throw new StorageError('PROTOCOL_ERROR', 'a piece of a copy is not one')
    }
    if (piece[0] !== endPiece) hash.update(body)
    if (piece[0] === startPiece) {
      begun.push(body)
      begunBytes += body.length
      if (begunBytes > mostRowBytes) throw new StorageError('PROTOCOL_ERROR', 'a row of a copy has no end')
    } else if (piece[0] === rowsPiece) {
      const whole = begun.length === 0 ? body : new Uint8Array(begunBytes + body.length)
      let at = 0
      for (const part of begun.length === 0 ? [] : [...begun, body]) {
        whole.set(part, at)
        at += part.length
      }
      begun = []
      begunBytes = 0
      yield whole.buffer
    } else if (Buffer.compare(hash.digest(), body) === 0) isWhole = true
    else throw new StorageError('PROTOCOL_ERROR', 'a copy was damaged on its way')
  }
  if (!isWhole) throw new StorageError('PEER_UNREACHABLE', 'a copy has no end')
}

function framed(kind: number, body: Uint8Array): Uint8Array {
  const piece = new Uint8Array(1 + body.length)
  piece[0] = kind
  piece.set(body, 1)
  return piece
}
