import assert from 'node:assert/strict'
import { maxChunkBytes } from '../../core/contract/ids.ts'
import type { ByteStream } from '../../core/protocol/rpc/byte-stream.ts'
import { encodeHeader, type FrameHeader, flags, frame, ops, reasons } from '../../core/protocol/rpc/frame.ts'
import { FrameReader } from '../../core/protocol/rpc/frame-reader.ts'
import { FrameWriter } from '../../core/protocol/rpc/frame-writer.ts'
import { type Greeted, greetAsClient, greetAsServer } from '../../core/protocol/rpc/greeting.ts'
import { encodeOpening } from '../../core/protocol/rpc/hello.ts'
import { exchangeBytes } from '../../core/protocol/rpc/seal.ts'
import { crc32c } from '../../native/crc.ts'
import {
  clientNode,
  delay,
  eventually,
  fill,
  type Ground,
  getChunk,
  identity,
  type Law,
  pattern,
  putChunk,
  realEnvironment,
  rejectsWith,
  serverNode,
  testId,
} from './transport-place.ts'

const { randomness } = realEnvironment

export interface RawPeer {
  readonly stream: ByteStream
  readonly reader: FrameReader
  readonly writer: FrameWriter
  readonly greeted: Greeted
}

/** A client that knows the key and then does as it likes. */
async function rawClient(
  ground: Ground,
  address: string,
  versions?: { lowest: number; highest: number },
): Promise<RawPeer> {
  const stream = await ground.wire.connect(address, new AbortController().signal)
  const reader = new FrameReader(stream, crc32c)
  const writer = new FrameWriter(stream, crc32c)
  const greeted = await greetAsClient({
    reader,
    writer,
    crc32c,
    identity: identity(clientNode),
    randomness,
    keepAliveMs: 10_000,
    peerNodeId: undefined,
    ...(versions === undefined ? {} : { versions }),
  })
  return { stream, reader, writer, greeted }
}

/** A server that knows the key and then does as it likes. */
export async function rawServer(
  ground: Ground,
  behave: (peer: RawPeer) => Promise<void>,
): Promise<{ readonly address: string; close(): Promise<void> }> {
  const open = new Set<ByteStream>()
  const listener = await ground.wire.listen(ground.address, (stream) => {
    open.add(stream)
    const reader = new FrameReader(stream, crc32c)
    const writer = new FrameWriter(stream, crc32c)
    const parts = { reader, writer, crc32c, identity: identity(serverNode), randomness }
    greetAsServer({ ...parts, requestCredits: 64, byteCredits: 16 * 1024 * 1024, hasRoom: () => true })
      .then((greeted) => behave({ stream, reader, writer, greeted }))
      .catch(() => stream.destroy())
  })
  return {
    address: listener.address,
    async close() {
      await listener.close()
      for (const stream of open) stream.destroy()
    },
  }
}

/** All bytes until the other side ends or breaks the connection. */
export async function drain(stream: ByteStream): Promise<number> {
  let byteLength = 0
  try {
    for (;;) {
      const bytes = await stream.read()
      if (bytes === undefined) return byteLength
      byteLength += bytes.length
    }
  } catch {
    return byteLength
  }
}

/** The reason of the farewell that comes next; undefined when the connection ends without one. */
async function farewell(reader: FrameReader): Promise<number | undefined> {
  try {
    for (;;) {
      const header = await reader.header()
      if (header === undefined) return undefined
      if (header.op === ops.goodbye) return header.reason
      if (header.length > 0 && (header.flags & flags.payload) !== 0) await reader.skip(header.length)
    }
  } catch {
    return undefined
  }
}

const headerOf = (bytes: Partial<FrameHeader> & { readonly op: number }): FrameHeader =>
  frame({ requestId: 1, ...bytes })

/** Each breaks the protocol in its way; the server says how and ends that session, and no other. */
const violations: readonly {
  readonly what: string
  readonly reason: number
  send(peer: RawPeer): Promise<void>
}[] = [
  {
    what: 'bytes that are no header',
    reason: reasons.badHeader,
    send: ({ stream }) => stream.write([new Uint8Array(64).fill(0x47)]),
  },
  {
    what: 'a version that was not agreed on',
    reason: reasons.badVersion,
    send: ({ writer }) => writer.send(headerOf({ op: ops.ping, version: 2 })),
  },
  {
    what: 'a flag that does not exist',
    reason: reasons.badFlags,
    send: ({ writer }) => writer.send(headerOf({ op: ops.ping, flags: 64 })),
  },
  {
    what: 'the next flag, which this version does not have',
    reason: reasons.badFlags,
    send: ({ writer }) => writer.send(headerOf({ op: ops.ping, flags: 4 })),
  },
  {
    what: 'an answer, from a client',
    reason: reasons.badFlags,
    send: ({ writer }) => writer.send(headerOf({ op: ops.ping, flags: flags.answer })),
  },
  {
    what: 'a PUT without a payload',
    reason: reasons.badFlags,
    send: ({ writer }) => writer.send(headerOf({ op: ops.put, length: 100 })),
  },
  {
    what: 'a PUT of more than a chunk, of which no byte follows',
    reason: reasons.badLength,
    send: ({ writer }) => writer.send(headerOf({ op: ops.put, flags: flags.payload, length: 0xffff_ffff })),
  },
  {
    what: 'a PUT of nothing',
    reason: reasons.badLength,
    send: ({ writer }) => writer.send(headerOf({ op: ops.put, flags: flags.payload, length: 0 })),
  },
  {
    what: 'a GET of more than a chunk',
    reason: reasons.badLength,
    send: ({ writer }) => writer.send(headerOf({ op: ops.get, length: maxChunkBytes + 1 })),
  },
  {
    what: 'a LIST without an end',
    reason: reasons.badLength,
    send: ({ writer }) => writer.send(headerOf({ op: ops.list, length: 0xffff_ffff })),
  },
  {
    what: 'a second greeting',
    reason: reasons.badOrder,
    send: ({ writer }) =>
      writer.send(
        headerOf({ op: ops.hello, flags: flags.payload, length: 4, requestId: 0 }),
        new Uint8Array(4),
      ),
  },
]

export function proveAgainstClients(law: Law): void {
  for (const { what, reason, send } of violations) {
    law(`${what}: the session ends with the reason, the others do not notice`, async (ground) => {
      const { listener, session } = await ground.pair()
      const raw = await rawClient(ground, listener.address)
      await send(raw)
      assert.equal(await farewell(raw.reader), reason)
      raw.stream.destroy()
      await eventually(() => listener.sessionCount === 1, 'the session is not over')
      await putChunk(ground.own, session, 1, 5000)
      await getChunk(session, 1, 5000)
    })
  }

  law('more requests than were granted end the session', async (ground) => {
    const listener = await ground.listen({ requestCredits: 4 })
    const raw = await rawClient(ground, listener.address)
    assert.equal(raw.greeted.introduction.requestCredits, 4)
    await putAll(ground, 1)
    // Whole chunks, which the server cannot send as fast as it reads requests that arrive all at once.
    const requests = Array.from({ length: 64 }, (_, index) =>
      frame({ op: ops.get, requestId: index + 1, chunkId: testId(1), length: 1_000_000 }),
    )
    await raw.stream.write(requests.map((request) => encodeHeader(request, crc32c))).catch(() => undefined)
    assert.equal(await farewell(raw.reader), reasons.credits)
    raw.stream.destroy()
  })

  law('an unknown op is refused with its payload, and the session goes on', async (ground) => {
    const { listener } = await ground.pair()
    const raw = await rawClient(ground, listener.address)
    const payload = pattern(1, 70_000)
    await raw.writer.send(
      headerOf({ op: 77, flags: flags.payload, length: payload.length, payloadCrc: crc32c(payload) }),
      payload,
    )
    await raw.writer.send(headerOf({ op: ops.ping, requestId: 2 }))
    const answers = [await raw.reader.header(), await raw.reader.header()]
    const refusal = answers.find((answer) => answer?.requestId === 1)
    assert.equal(refusal?.status, 7)
    assert.equal(refusal?.reason, reasons.badOp)
    assert.equal(answers.find((answer) => answer?.requestId === 2)?.status, 0)
    raw.stream.destroy()
  })

  law('a PUT whose payload was damaged is not stored, and the session goes on', async (ground) => {
    const { listener, session } = await ground.pair()
    const raw = await rawClient(ground, listener.address)
    const payload = pattern(1, 70_000)
    const put = headerOf({ op: ops.put, chunkId: testId(1), flags: flags.payload, length: payload.length })
    await raw.writer.send({ ...put, payloadCrc: (crc32c(payload) ^ 1) >>> 0 }, payload)
    const answer = await raw.reader.header()
    assert.equal(answer?.status, 6)
    assert.equal(answer?.reason, reasons.damaged)
    assert.equal(await session.has(testId(1)), false)
    await raw.writer.send({ ...put, requestId: 2, payloadCrc: crc32c(payload) }, payload)
    assert.equal((await raw.reader.header())?.status, 0)
    assert.equal(await session.has(testId(1)), true)
    raw.stream.destroy()
  })

  law('a client that does not read its answers stops itself and nobody else', async (ground) => {
    const { listener, session } = await ground.pair()
    await putAll(ground, 1)
    const raw = await rawClient(ground, listener.address)
    for (let id = 1; id <= 8; id++) {
      await raw.writer.send(frame({ op: ops.get, requestId: id, chunkId: testId(1), length: 1_000_000 }))
    }
    await delay(50)
    await getChunk(session, 1, 1_000_000)
    raw.stream.destroy()
    await eventually(() => listener.sessionCount === 1, 'the session is not over')
  })

  law('a client that leaves within a frame takes nothing with it', async (ground) => {
    const { listener, session } = await ground.pair()
    const raw = await rawClient(ground, listener.address)
    await raw.writer.send(
      headerOf({ op: ops.put, chunkId: testId(1), flags: flags.payload, length: 1_000_000 }),
    )
    await raw.stream.write([new Uint8Array(1000)])
    await delay(20)
    raw.stream.destroy()
    await eventually(() => listener.sessionCount === 1, 'the session is not over')
    assert.equal(await session.has(testId(1)), false)
  })

  law('a client that ends its direction still gets its answers', async (ground) => {
    const { listener } = await ground.pair()
    const raw = await rawClient(ground, listener.address)
    await raw.writer.send(headerOf({ op: ops.ping }))
    await raw.writer.send(headerOf({ op: ops.has, requestId: 2, chunkId: testId(1) }))
    raw.stream.end()
    const answered = [await raw.reader.header(), await raw.reader.header()].map((header) => header?.requestId)
    assert.deepEqual(answered.sort(), [1, 2])
    assert.equal(await drain(raw.stream), 0)
  })

  proveGreeting(law)
}

async function putAll(ground: Ground, seed: number): Promise<void> {
  const buffer = await ground.served.acquire(1_000_000)
  buffer.bytes.set(pattern(seed, 1_000_000))
  await ground.served.put(testId(seed), buffer, 1_000_000)
  buffer.release()
}

/** What a frame of the greeting's second step takes: all that a stranger ever gets. */
const challengeFrameBytes = 64 + 32

function proveGreeting(law: Law): void {
  law('a stranger gets one random number and silence, whatever it sends', async (ground) => {
    const { listener, session } = await ground.pair()
    const opening = encodeOpening({ nonce: fill(32, 1), lowestVersion: 1, highestVersion: 1 })
    const hello = { op: ops.hello, flags: flags.payload }
    const speeches: readonly (readonly [
      string,
      (writer: FrameWriter, stream: ByteStream) => Promise<void>,
      number,
    ])[] = [
      ['noise', (_, stream) => stream.write([pattern(1, 4096)]), 0],
      ['a request', (writer) => writer.send(headerOf({ op: ops.list, length: 10 })), 0],
      [
        'an opening that is too long',
        (writer) => writer.send(frame({ ...hello, offset: 1, length: 100_000 }), new Uint8Array(5000)),
        0,
      ],
      [
        'a proof of zeros',
        async (writer) => {
          await writer.send(
            frame({ ...hello, offset: 1, length: opening.length, payloadCrc: crc32c(opening) }),
            opening,
          )
          const proof = new Uint8Array(104)
          await writer.send(frame({ ...hello, offset: 3, length: 104, payloadCrc: crc32c(proof) }), proof)
        },
        challengeFrameBytes,
      ],
    ]
    for (const [what, speak, learned] of speeches) {
      const stream = await ground.wire.connect(listener.address, new AbortController().signal)
      const heard = drain(stream)
      await speak(new FrameWriter(stream, crc32c), stream).catch(() => undefined)
      assert.equal(await heard, learned, what)
      stream.destroy()
    }
    assert.equal(listener.sessionCount, 1)
    await session.ping()
  })

  law('a stranger that says nothing is cut in time', async (ground) => {
    const listener = await ground.listen({ handshakeTimeoutMs: 100 })
    const stream = await ground.wire.connect(listener.address, new AbortController().signal)
    const began = performance.now()
    assert.equal(await drain(stream), 0)
    assert.ok(performance.now() - began < 5000)
    stream.destroy()
  })

  law('a greeting that was overheard and is played again proves nothing', async (ground) => {
    const listener = await ground.listen()
    const tap = await ground.tap(listener.address)
    const session = await ground.connect(tap.address)
    await putChunk(ground.own, session, 1, 100)
    await session.close()
    const stream = await ground.wire.connect(listener.address, new AbortController().signal)
    const heard = drain(stream)
    await stream.write(tap.recorded).catch(() => undefined)
    const exchange = ground.adapter.capabilities.encrypted ? exchangeBytes : 0
    assert.equal(await heard, challengeFrameBytes + exchange)
    assert.equal(listener.sessionCount, 0)
    stream.destroy()
  })

  law('an older and a newer peer are refused by a reason, one that speaks both is served', async (ground) => {
    const listener = await ground.listen()
    const others = [
      { versions: { lowest: 2, highest: 9 }, told: /it speaks version 2 to 9 of the protocol, this node 1/ },
      { versions: { lowest: 0, highest: 0 }, told: /it speaks version 0 of the protocol, this node 1/ },
    ]
    for (const [index, { versions, told }] of others.entries()) {
      await assert.rejects(
        rawClient(ground, listener.address, versions),
        /the peer refused: it speaks version 1 of the protocol, this node \d/,
      )
      const isTold = () => listener.refusals.count === index + 1 && told.test(listener.refusals.last)
      await eventually(isTold, 'the listener does not tell whom it refused')
    }
    const raw = await rawClient(ground, listener.address, { lowest: 0, highest: 9 })
    assert.equal(raw.greeted.peer.protocolVersion, 1)
    raw.stream.destroy()
    await eventually(() => listener.sessionCount === 0, 'a refused peer has a session')
  })

  law('a server that does not know the key gets no session', async (ground) => {
    const listener = await ground.wire.listen(ground.address, (stream) => {
      const parts = {
        reader: new FrameReader(stream, crc32c),
        writer: new FrameWriter(stream, crc32c),
        crc32c,
      }
      // It echoes what it hears: the client's own proof, reflected.
      void parts.reader
        .header()
        .then(async (header) => {
          await parts.reader.skip(header?.length ?? 0)
          const nonce = fill(32, 3)
          await parts.writer.send(
            frame({ op: ops.hello, flags: flags.payload, offset: 2, length: 32, payloadCrc: crc32c(nonce) }),
            nonce,
          )
          const proof = await parts.reader.header()
          const payload = new Uint8Array(proof?.length ?? 0)
          await parts.reader.payload(payload)
          await parts.writer.send(
            frame({
              op: ops.hello,
              flags: flags.payload,
              offset: 4,
              length: payload.length,
              payloadCrc: crc32c(payload),
            }),
            payload,
          )
        })
        .catch(() => stream.destroy())
    })
    await rejectsWith('PEER_REFUSED', ground.connect(listener.address, { timeoutMs: 10_000 }))
    await listener.close()
  })
}
