import type { ServerResponse } from 'node:http'
import { StorageError } from '../../../contract/errors.ts'
import type { ResponseStream } from '../operation.ts'
import { blockBytes, type SlabAnswer } from './shared-slab.ts'

/**
 * The body goes into blocks of the slab, and the HTTP answer says into which: number and length of each, 32 bits little endian, as soon as
 * it is filled. As over a socket, the head is written with the first piece.
 */
export async function sendThroughSlab(
  response: ServerResponse,
  body: ResponseStream,
  slab: SlabAnswer,
  writeHead: () => void,
): Promise<void> {
  let sent = 0
  try {
    await body.send(async (piece) => {
      for (let at = 0; at < piece.length; at += blockBytes) {
        const { block, length } = await slab.put(piece.subarray(at, at + blockBytes))
        if (response.destroyed) throw new StorageError('CANCELLED', 'the client went away')
        if (sent === 0) writeHead()
        sent += length
        const told = Buffer.allocUnsafe(8)
        told.writeUInt32LE(block, 0)
        told.writeUInt32LE(length, 4)
        response.write(told)
      }
    })
    if (sent !== body.byteLength)
      throw new StorageError('INTERNAL', 'a body has another length than declared')
    response.end()
  } finally {
    slab.end()
  }
}
