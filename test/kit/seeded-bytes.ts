import { createCipheriv, createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { open } from 'node:fs/promises'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'

/** What is encrypted, kept between calls: to make it anew takes longer than to encrypt it. */
let zeros = Buffer.alloc(0)
const mostZeros = 8 * 1024 * 1024

function zerosOf(length: number): Buffer {
  if (length > mostZeros) return Buffer.alloc(length)
  if (length > zeros.length) zeros = Buffer.alloc(length)
  return zeros.subarray(0, length)
}

/**
 * Incompressible bytes that any process can make again from (seed, offset, length): AES-128-CTR over zeros. About 1 GB/s
 * a core, so that a 5 GiB object needs no file.
 */
export function seededBytes(seed: string, offset: number, length: number): Buffer {
  const block = Math.floor(offset / 16)
  const skip = offset - block * 16
  const key = createHash('sha256').update(seed).digest().subarray(0, 16)
  const counter = Buffer.alloc(16)
  counter.writeBigUInt64BE(BigInt(block), 8)
  const bytes = createCipheriv('aes-128-ctr', key, counter).update(zerosOf(skip + length))
  return bytes.subarray(skip)
}

/** The same bytes as a stream, in pieces of `pieceBytes`. */
export function seededStream(seed: string, length: number, pieceBytes = 1024 * 1024): Readable {
  function* pieces(): Generator<Buffer> {
    for (let offset = 0; offset < length; offset += pieceBytes) {
      yield seededBytes(seed, offset, Math.min(pieceBytes, length - offset))
    }
  }
  return Readable.from(pieces(), { objectMode: false, highWaterMark: pieceBytes })
}

/** Hex SHA-256 of the bytes that `seededStream` gives. */
export async function seededDigest(seed: string, length: number): Promise<string> {
  return await digestStream(seededStream(seed, length))
}

export async function digestStream(stream: Readable): Promise<string> {
  const hash = createHash('sha256')
  await pipeline(stream, hash)
  return hash.digest('hex')
}

export async function digestFile(path: string): Promise<string> {
  return await digestStream(createReadStream(path, { highWaterMark: 1024 * 1024 }))
}

/** Writes a file of seeded bytes and returns its hex SHA-256. */
export async function writeSeededFile(path: string, seed: string, length: number): Promise<string> {
  const hash = createHash('sha256')
  const file = await open(path, 'w')
  try {
    const step = 4 * 1024 * 1024
    for (let offset = 0; offset < length; offset += step) {
      const piece = seededBytes(seed, offset, Math.min(step, length - offset))
      hash.update(piece)
      await file.write(piece)
    }
  } finally {
    await file.close()
  }
  return hash.digest('hex')
}
