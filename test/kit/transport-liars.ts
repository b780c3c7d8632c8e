import assert from 'node:assert/strict'
import { type FrameHeader, flags, frame, ops } from '../../core/protocol/rpc/frame.ts'
import { crc32c } from '../../native/crc.ts'
import { fill, type Law, outcomes, regionKey, testId } from './transport-place.ts'
import { drain, rawServer } from './transport-strangers.ts'

const answerTo = (
  { op, requestId, chunkId, offset }: FrameHeader,
  fields: Partial<FrameHeader> = {},
): FrameHeader => frame({ op, requestId, chunkId, offset, flags: flags.answer, ...fields })

/** What an answer says of bytes that are a chunk. */
const wholeOf = (bytes: Uint8Array): Partial<FrameHeader> => ({
  ...{ flags: flags.answer | flags.payload, length: bytes.length, payloadCrc: crc32c(bytes) },
  ...{ chunkLength: bytes.length, chunkCrc: crc32c(bytes) },
})

/** Servers that know the key and do not answer what they were asked. */
export function proveServers(law: Law): void {
  const lies: readonly (readonly [
    string,
    string,
    (request: FrameHeader) => FrameHeader,
    Uint8Array | undefined,
  ])[] = [
    [
      'answers longer than what was asked for',
      'PROTOCOL_ERROR',
      (request) => answerTo(request, { flags: 3, length: 0x7fff_ffff }),
      undefined,
    ],
    [
      'answers to nothing',
      'PROTOCOL_ERROR',
      (request) => answerTo(request, { requestId: request.requestId + 1 }),
      undefined,
    ],
    [
      'answers with another op',
      'PROTOCOL_ERROR',
      (request) => answerTo(request, { op: ops.ping }),
      undefined,
    ],
    [
      'sends requests of its own',
      'PROTOCOL_ERROR',
      (request) => frame({ op: ops.get, requestId: request.requestId, length: 10 }),
      undefined,
    ],
    [
      'answers with a payload that is not what its CRC says',
      'IO_ERROR',
      (request) => answerTo(request, { flags: 3, length: 10, payloadCrc: 5 }),
      fill(10, 1),
    ],
    [
      'answers with a status that does not exist',
      'INTERNAL',
      (request) => answerTo(request, { status: 200 }),
      undefined,
    ],
    [
      'answers with sound bytes of another chunk',
      'PROTOCOL_ERROR',
      (request) => answerTo(request, { ...wholeOf(fill(100, 1)), chunkId: testId(2) }),
      fill(100, 1),
    ],
    [
      'says that another chunk is not there',
      'PROTOCOL_ERROR',
      (request) => answerTo(request, { chunkId: testId(2), status: 1 }),
      undefined,
    ],
    [
      'answers with sound bytes from another offset',
      'PROTOCOL_ERROR',
      (request) => answerTo(request, { ...wholeOf(fill(100, 1)), chunkLength: 500, offset: 100 }),
      fill(100, 1),
    ],
    [
      'leaves bytes of the chunk out',
      'IO_ERROR',
      (request) => answerTo(request, { ...wholeOf(fill(10, 1)), chunkLength: 50 }),
      fill(10, 1),
    ],
    [
      "answers with a whole chunk that is not the store's",
      'IO_ERROR',
      (request) => answerTo(request, { ...wholeOf(fill(50, 1)), chunkCrc: 5 }),
      fill(50, 1),
    ],
  ]
  for (const [what, code, answer, payload] of lies) {
    law(`a server that ${what} is caught: ${code}`, async (ground) => {
      const server = await rawServer(ground, async ({ reader, writer, stream }) => {
        const request = await reader.header()
        assert.ok(request)
        await writer.send(answer(request), payload)
        await drain(stream)
      })
      const session = await ground.connect(server.address)
      assert.deepEqual(await outcomes([session.get(testId(1), 0, 100)]), [code])
      await session.close(0)
      await server.close()
    })
  }

  law('an answer that comes twice ends the session, and the request has ended once', async (ground) => {
    const server = await rawServer(ground, async ({ reader, writer, stream }) => {
      const request = await reader.header()
      assert.ok(request)
      const answer = answerTo(request)
      await writer.send(answer)
      await writer.send(answer)
      await drain(stream)
    })
    const session = await ground.connect(server.address)
    assert.equal(await session.has(testId(1)), true)
    assert.equal((await session.ended).error?.code, 'PROTOCOL_ERROR')
    await server.close()
  })

  law('the key is never sent', async (ground) => {
    const listener = await ground.listen()
    const tap = await ground.tap(listener.address)
    const session = await ground.connect(tap.address)
    await session.ping()
    assert.equal(Buffer.concat(tap.recorded).includes(Buffer.from(regionKey)), false)
  })
}
