import assert from 'node:assert/strict'
import test from 'node:test'
import fc from 'fast-check'
import { StorageError } from '../../../core/contract/errors.ts'
import type { TunnelReader, TunnelWriter } from '../../../core/contract/tunnel.ts'
import { type Message, MessageReader, MessageWriter } from '../../../federation/framing/messages.ts'

/** Everything written, whole. */
function sink(): { readonly writable: TunnelWriter; bytes(): Buffer; isClosed(): boolean } {
  const pieces: Uint8Array[] = []
  let isClosed = false
  return {
    writable: {
      async write(bytes) {
        pieces.push(Uint8Array.from(bytes))
      },
      async close() {
        isClosed = true
      },
      async abort() {},
    },
    bytes: () => Buffer.concat(pieces),
    isClosed: () => isClosed,
  }
}

/** The bytes in pieces of the sizes given, again and again. */
function source(bytes: Uint8Array, sizes: readonly number[] = [1 << 20]): TunnelReader {
  let at = 0
  let turn = 0
  return {
    async read() {
      if (at >= bytes.length) return { done: true, value: undefined }
      const size = sizes[turn++ % sizes.length] ?? 1
      const value = Uint8Array.from(bytes.subarray(at, at + size))
      at += value.length
      return { done: false, value }
    },
    async cancel() {},
  }
}

async function encode(messages: readonly Message[]): Promise<Buffer> {
  const end = sink()
  const writer = new MessageWriter(end.writable)
  for (const { type, payload } of messages) await writer.send(type, payload)
  await writer.end()
  assert.ok(end.isClosed())
  return end.bytes()
}

async function decode(bytes: Uint8Array, sizes?: readonly number[]): Promise<readonly Message[]> {
  const reader = new MessageReader(source(bytes, sizes))
  const messages: Message[] = []
  for (let next = await reader.read(); next !== undefined; next = await reader.read()) messages.push(next)
  return messages
}

const notWhole = (error: unknown): boolean =>
  error instanceof StorageError && error.code === 'PROTOCOL_ERROR' && /not whole/.test(error.reason)

const message = fc.record({
  type: fc.integer({ min: 1, max: 255 }),
  payload: fc.uint8Array({ maxLength: 300 }),
})
const plain = (messages: readonly Message[]) =>
  messages.map(({ type, payload }) => ({ type, payload: [...payload] }))

test('messages come back as they were sent, however the bytes were cut', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(message, { maxLength: 12 }),
      fc.array(fc.integer({ min: 1, max: 90 }), { minLength: 1, maxLength: 5 }),
      async (messages, sizes) => {
        assert.deepEqual(plain(await decode(await encode(messages), sizes)), plain(messages))
      },
    ),
  )
})

test('T30: a stream that ends before its END is an error, at every byte', async () => {
  const bytes = await encode([
    { type: 1, payload: Buffer.from('one') },
    { type: 2, payload: new Uint8Array(0) },
    { type: 255, payload: Buffer.alloc(200, 7) },
  ])
  for (let length = 0; length < bytes.length; length++) {
    await assert.rejects(decode(bytes.subarray(0, length)), notWhole, `cut after ${length} bytes`)
  }
})

test('every changed bit of a stream is an error', async () => {
  const bytes = await encode([
    { type: 1, payload: Buffer.from('one') },
    { type: 2, payload: Buffer.alloc(40, 9) },
  ])
  for (let bit = 0; bit < bytes.length * 8; bit++) {
    const changed = Buffer.from(bytes)
    changed[bit >> 3] = (changed[bit >> 3] ?? 0) ^ (1 << (bit & 7))
    await assert.rejects(decode(changed), notWhole, `bit ${bit}`)
  }
})

test('what follows the END is an error, in the same piece or in another one', async () => {
  const bytes = Buffer.concat([await encode([{ type: 1, payload: Buffer.from('x') }]), Buffer.of(0)])
  await assert.rejects(decode(bytes), notWhole)
  await assert.rejects(decode(bytes, [bytes.length - 1, 1]), notWhole)
})

test('a message that is too long is refused before it is held, and none is sent', async () => {
  const header = Buffer.alloc(5)
  header[0] = 1
  header.writeUInt32BE(0xffff_ffff, 1)
  let pieces = 0
  const endless: TunnelReader = {
    async read() {
      pieces++
      return { done: false, value: pieces === 1 ? header : Buffer.alloc(65_536) }
    },
    async cancel() {},
  }
  await assert.rejects(new MessageReader(endless).read(), notWhole)
  assert.equal(pieces, 1)
  const writer = new MessageWriter(sink().writable)
  await assert.rejects(writer.send(1, new Uint8Array(1024 * 1024 + 1)), /at most/)
  await assert.rejects(writer.send(0), /not a type/)
  await assert.rejects(
    new MessageReader(source(await encode([{ type: 1, payload: Buffer.alloc(9) }])), { maxBytes: 8 }).read(),
    notWhole,
  )
})

test('payloads that are read part by part are the same bytes, and no cut or changed byte goes unnoticed', async () => {
  const pieceType = 4
  const inParts = async (bytes: Uint8Array, sizes: readonly number[]): Promise<readonly Buffer[]> => {
    const reader = new MessageReader(source(bytes, sizes))
    const parts: Uint8Array[] = []
    const others: Buffer[] = []
    for (;;) {
      const next = await reader.readPart([pieceType])
      if (next === undefined) return [Buffer.concat(parts), ...others]
      if ('part' in next) parts.push(next.part)
      else others.push(Buffer.from(next.message.payload))
    }
  }
  const payload = fc.uint8Array({ maxLength: 300 })
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.record({ type: fc.constantFrom(pieceType, 7), payload }), { maxLength: 8 }),
      fc.array(fc.integer({ min: 1, max: 90 }), { minLength: 1, maxLength: 5 }),
      fc.nat(),
      async (messages, sizes, seed) => {
        const bytes = await encode(messages)
        const of = (wanted: boolean) =>
          messages
            .filter(({ type }) => (type === pieceType) === wanted)
            .map((one) => Buffer.from(one.payload))
        assert.deepEqual(await inParts(bytes, sizes), [Buffer.concat(of(true)), ...of(false)])
        await assert.rejects(inParts(bytes.subarray(0, seed % bytes.length), sizes), notWhole)
        const changed = Buffer.from(bytes)
        const at = seed % changed.length
        changed[at] = (changed[at] ?? 0) ^ 1
        await assert.rejects(inParts(changed, sizes))
      },
    ),
  )
})

test('payloads that have a proof of their own are no part of the digest; their number, types and lengths are', async () => {
  const bare = 9
  const end = sink()
  const writer = new MessageWriter(end.writable, { unhashed: bare })
  let released = 0
  await writer.lend(bare, Buffer.from('proved elsewhere'), () => released++)
  await writer.send(1, Buffer.from('hashed'))
  await writer.end()
  assert.equal(released, 1)
  const bytes = end.bytes()
  const all = async (received: Buffer): Promise<string[]> => {
    const reader = new MessageReader(source(received, [7]), { unhashed: bare })
    const payloads: string[] = []
    for (let next = await reader.readPart([bare]); next !== undefined; next = await reader.readPart([bare])) {
      payloads.push(Buffer.from('part' in next ? next.part : next.message.payload).toString())
    }
    return payloads
  }
  assert.equal((await all(bytes)).join(''), 'proved elsewherehashed')
  for (let at = 0; at < bytes.length; at++) {
    const changed = Buffer.from(bytes)
    changed[at] = (changed[at] ?? 0) ^ 1
    const isBare = at >= 5 && at < 5 + 'proved elsewhere'.length
    if (isBare) await all(changed)
    else await assert.rejects(all(changed), `byte ${at}`)
  }
  for (let cut = 0; cut < bytes.length; cut++) await assert.rejects(all(bytes.subarray(0, cut)), notWhole)
})
