import assert from 'node:assert/strict'
import { createServer, request } from 'node:http'
import type { AddressInfo } from 'node:net'
import { after, before, describe, test } from 'node:test'
import type { ChunkStore } from '../../../core/contract/chunk-store.ts'
import { silentLogger } from '../../../core/contract/logger.ts'
import type { PieceSink } from '../../../core/gateway/s3/operation.ts'
import { SocketBody } from '../../../core/gateway/s3/request-body.ts'
import { realEnvironment } from '../../../core/node/environment.ts'
import { loadAddon, openChunkStore } from '../../../native/addon.ts'

const addon = loadAddon()
const skip = addon instanceof Error && addon.message
const mebibyte = 1024 * 1024

/** Sends a body through a real socket and pumps it into the sink that is made for it. */
async function upload(chunks: ChunkStore, bytes: Buffer, sink: PieceSink): Promise<void> {
  let failure: unknown
  const server = createServer((message, response) => {
    const body = new SocketBody(
      { chunks, environment: realEnvironment },
      message,
      { kind: 'unsigned' },
      undefined,
    )
    body
      .pump(sink)
      .catch((error: unknown) => {
        failure = error
      })
      .finally(() => response.end())
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  try {
    const { port } = server.address() as AddressInfo
    const client = request({ port, method: 'PUT', headers: { 'content-length': bytes.length } })
    const answered = new Promise((resolve, reject) => {
      client.on('response', (response) => response.resume().on('end', resolve))
      client.on('error', reject)
    })
    client.end(bytes)
    await answered
    if (failure !== undefined) throw failure
  } finally {
    server.close()
  }
}

describe('the pieces of a body', { skip }, () => {
  let store: ChunkStore
  const bytes = Buffer.from(Uint8Array.from({ length: 8 * mebibyte }, (_, index) => index % 251))

  before(async () => {
    store = await openChunkStore({ directory: '/nonexistent', backend: 'memory', log: silentLogger })
  })
  after(() => store.close())

  for (const kind of ['returns', 'lets the source wait'] as const) {
    test(`are all whole until the sink ${kind}, and their memory is free after it`, async () => {
      const copies: Buffer[] = []
      const seen: Uint8Array[] = []
      let kept = 0
      await upload(store, bytes, (piece) => {
        if (seen.length > 0 && (seen.at(-1)?.length ?? 0) >= 16 * 1024) kept++
        seen.push(piece)
        if (kind === 'returns') {
          copies.push(Buffer.from(piece))
          return undefined
        }
        return new Promise((resolve) => setImmediate(resolve)).then(
          () => void copies.push(Buffer.from(piece)),
        )
      })
      assert.ok(bytes.equals(Buffer.concat(copies)), 'the bytes arrived')
      assert.ok(seen.length > 20, `${seen.length} pieces`)
      assert.equal(kept, 0, 'a piece was still there when the next one came')
    })
  }
})
