import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import test from 'node:test'
import fc from 'fast-check'
import type { ByteStream } from '../../../core/protocol/rpc/byte-stream.ts'
import {
  decodeHeader,
  encodeHeader,
  type FrameHeader,
  flags,
  frame,
  headerBytes,
  ops,
  ProtocolViolation,
} from '../../../core/protocol/rpc/frame.ts'
import { FrameReader } from '../../../core/protocol/rpc/frame-reader.ts'
import {
  decodeIntroduction,
  decodeOpening,
  encodeIntroduction,
  encodeOpening,
  isProved,
  prove,
} from '../../../core/protocol/rpc/hello.ts'
import { listAfter, listFrom } from '../../../core/protocol/rpc/list-records.ts'
import { codeOf, statusOf } from '../../../core/protocol/rpc/status.ts'
import { crc32c } from '../../../native/crc.ts'

/** The vectors that the native implementation is tested with, too. */
interface Vector {
  readonly kind: string
  readonly name: string
  readonly fields: ReadonlyMap<string, string>
}

const vectors: readonly Vector[] = readFileSync('native/test/rpc/vectors.txt', 'utf8')
  .split('\n\n')
  .map((block) => block.split('\n').filter((line) => line !== '' && !line.startsWith('#')))
  .filter((lines) => lines.length > 0)
  .map(([title = '', ...lines]) => {
    const [kind = '', name = ''] = title.split(' ')
    const fields = new Map(
      lines.map((line) => [line.slice(0, line.indexOf(' ')), line.slice(line.indexOf(' ') + 1)]),
    )
    return { kind, name, fields }
  })

const hexOf = (vector: Vector, field: string): Buffer => Buffer.from(vector.fields.get(field) ?? '', 'hex')
const numberOf = (vector: Vector, field: string): number => Number(vector.fields.get(field) ?? 0)

function headerOf(vector: Vector): FrameHeader {
  const goodbye = numberOf(vector, 'op') === ops.goodbye
  return frame({
    op: numberOf(vector, 'op'),
    flags: numberOf(vector, 'flags'),
    classIndex: numberOf(vector, 'class'),
    status: numberOf(vector, 'status'),
    requestId: numberOf(vector, 'id'),
    ...(vector.fields.has('trace') ? { traceId: Uint8Array.from(hexOf(vector, 'trace')) } : {}),
    chunkLength: numberOf(vector, 'chunk-length'),
    chunkCrc: numberOf(vector, 'chunk-crc'),
    value: numberOf(vector, 'value'),
    serverUs: numberOf(vector, 'server-us'),
    chunkId: Uint8Array.from(hexOf(vector, 'chunk')),
    offset: numberOf(vector, 'offset'),
    length: numberOf(vector, 'length'),
    deadlineUs: goodbye ? 0 : numberOf(vector, 'deadline'),
    reason: goodbye ? numberOf(vector, 'deadline') : numberOf(vector, 'reason'),
    payloadCrc: numberOf(vector, 'payload-crc'),
  })
}

const frames = vectors.filter(({ kind }) => kind === 'frame')
const greetings = vectors.filter(({ kind }) => kind === 'greeting')

test('there are vectors of both kinds', () => {
  assert.ok(frames.length >= 5 && greetings.length >= 1)
})

for (const vector of frames) {
  test(`the frame ${vector.name} is written and read as the native implementation does`, () => {
    const wire = hexOf(vector, 'hex')
    assert.equal(encodeHeader(headerOf(vector), crc32c).toString('hex'), wire.toString('hex', 0, headerBytes))
    assert.deepEqual(decodeHeader(wire.subarray(0, headerBytes), crc32c), headerOf(vector))
    assert.equal(crc32c(wire.subarray(headerBytes)), numberOf(vector, 'payload-crc'))
  })
}

for (const vector of greetings) {
  test(`the greeting ${vector.name} has the same bytes and the same proofs on both sides`, () => {
    const key = hexOf(vector, 'key')
    const payloads = [1, 2, 3, 4].map((step) => {
      const wire = hexOf(vector, `step${step}`)
      const header = decodeHeader(wire.subarray(0, headerBytes), crc32c)
      assert.equal(header.offset, step)
      assert.equal(header.length, wire.length - headerBytes)
      return wire.subarray(headerBytes)
    })
    const [
      opening = Buffer.alloc(0),
      challenge = Buffer.alloc(0),
      asked = Buffer.alloc(0),
      answered = Buffer.alloc(0),
    ] = payloads
    assert.ok(isProved('client', key, [opening, challenge, asked]))
    assert.ok(isProved('server', key, [opening, challenge, asked, answered]))
    assert.deepEqual(encodeOpening(decodeOpening(opening)), opening)
    assert.deepEqual(Buffer.from(challenge), hexOf(vector, 'server-nonce'))
    for (const [role, steps] of [
      ['client', [opening, challenge, asked]],
      ['server', [opening, challenge, asked, answered]],
    ] as const) {
      const last = Buffer.from(steps.at(-1) ?? [])
      const again = encodeIntroduction(decodeIntroduction(last))
      prove(role, key, [...steps.slice(0, -1), again])
      assert.deepEqual(again, last)
    }
    // Neither is the proof of the other role, nor of another nonce, key or epoch.
    assert.equal(isProved('server', key, [opening, challenge, asked]), false)
    for (const at of [0, 32, 64, 103]) {
      const changed = Buffer.from(asked)
      changed[at] = (changed[at] ?? 0) ^ 1
      assert.equal(isProved('client', key, [opening, challenge, changed]), false)
    }
    const otherNonce = Buffer.from(challenge)
    otherNonce[31] = (otherNonce[31] ?? 0) ^ 1
    assert.equal(isProved('client', key, [opening, otherNonce, asked]), false)
    assert.equal(isProved('client', Buffer.alloc(32), [opening, challenge, asked]), false)
  })
}

const u8 = fc.integer({ min: 0, max: 0xff })
const u32 = fc.integer({ min: 0, max: 0xffff_ffff })
const id = fc.uint8Array({ minLength: 16, maxLength: 16 })

test('every header comes back as it was written', () => {
  const shared = { classIndex: u8, requestId: u32, chunkId: id, offset: u32, length: u32, payloadCrc: u32 }
  const requests = fc.record({ ...shared, op: fc.integer({ min: 2, max: 8 }), traceId: id, deadlineUs: u32 })
  const answers = fc.record({
    ...shared,
    op: fc.integer({ min: 2, max: 8 }),
    flags: fc.constantFrom(flags.answer, flags.answer | flags.payload),
    status: u8,
    chunkLength: u32,
    chunkCrc: u32,
    value: u32,
    serverUs: u32,
    reason: u32,
  })
  fc.assert(
    fc.property(fc.oneof(requests, answers), (fields) => {
      const header = frame(fields)
      assert.deepEqual(decodeHeader(encodeHeader(header, crc32c), crc32c), header)
    }),
  )
})

test('a single bit that flips is noticed, wherever it is', () => {
  const sound = encodeHeader(frame({ op: ops.get, requestId: 5, length: 4096 }), crc32c)
  for (let bit = 0; bit < headerBytes * 8; bit++) {
    const damaged = Buffer.from(sound)
    damaged[bit >> 3] = (damaged[bit >> 3] ?? 0) ^ (1 << (bit & 7))
    assert.throws(() => decodeHeader(damaged, crc32c), ProtocolViolation, `bit ${bit}`)
  }
})

/** Bytes cut into pieces as a network would. */
function streamOf(bytes: Uint8Array, cuts: readonly number[]): ByteStream {
  const places = [...cuts.map((cut) => cut % (bytes.length + 1)), bytes.length].toSorted((a, b) => a - b)
  let at = 0
  return {
    async read() {
      const to = places.shift()
      if (to === undefined) return undefined
      const piece = bytes.slice(at, to)
      at = to
      return piece
    },
    write: async () => undefined,
    end: () => undefined,
    destroy: () => undefined,
  }
}

test('whatever comes, the reader gives frames or says what is wrong, and nothing else', async () => {
  const noise = fc.uint8Array({ maxLength: 300 })
  // Headers with a sound CRC and anything in them get further than noise does.
  const headers = fc.uint8Array({ minLength: headerBytes, maxLength: headerBytes }).map((bytes) => {
    const header = Buffer.from(bytes)
    header.writeUInt16LE(0x4450, 0)
    header.writeUInt32LE(0, 8)
    header.writeUInt32LE(crc32c(header), 8)
    return Uint8Array.from(header)
  })
  const input = fc.array(fc.oneof(noise, headers), { maxLength: 6 }).map((parts) => Buffer.concat(parts))
  await fc.assert(
    fc.asyncProperty(input, fc.array(fc.nat(2000), { maxLength: 10 }), async (bytes, cuts) => {
      const reader = new FrameReader(streamOf(bytes, cuts), crc32c)
      try {
        for (;;) {
          const header = await reader.header()
          if (header === undefined) return
          assert.ok((header.flags & ~3) === 0)
          if ((header.flags & flags.payload) !== 0) await reader.skip(Math.min(header.length, 100_000))
        }
      } catch (reason) {
        const code = reason instanceof Error && 'code' in reason ? reason.code : undefined
        assert.ok(reason instanceof ProtocolViolation || code === 'PEER_UNREACHABLE', String(reason))
      }
    }),
    { numRuns: 2000 },
  )
})

test('frames cut anywhere are put together again', async () => {
  const sent = [1, 2, 3].map((requestId) =>
    frame({ op: ops.put, flags: flags.payload, requestId, length: requestId * 50 }),
  )
  const wire = Buffer.concat(
    sent.flatMap((header) => [encodeHeader(header, crc32c), Buffer.alloc(header.length, header.requestId)]),
  )
  await fc.assert(
    fc.asyncProperty(fc.array(fc.nat(wire.length), { maxLength: 20 }), async (cuts) => {
      const reader = new FrameReader(streamOf(wire, cuts), crc32c)
      for (const expected of sent) {
        const header = await reader.header()
        assert.deepEqual(header, expected)
        const payload = Buffer.alloc(expected.length)
        await reader.payload(payload)
        assert.ok(payload.every((byte) => byte === expected.requestId))
      }
      assert.equal(await reader.header(), undefined)
    }),
  )
})

test('introductions of any content are taken apart or refused, never more', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
      for (const decode of [decodeIntroduction, decodeOpening]) {
        try {
          decode(Buffer.from(bytes))
        } catch (reason) {
          assert.ok(reason instanceof ProtocolViolation, String(reason))
        }
      }
    }),
  )
})

test('where a list begins and after what are each other, over every carry', () => {
  fc.assert(
    fc.property(id, (after) => {
      const from = listFrom(after)
      if (from === null) assert.ok(after.every((byte) => byte === 0xff))
      else assert.deepEqual(listAfter(from), Uint8Array.from(after))
    }),
  )
  assert.equal(listAfter(listFrom(null) ?? new Uint8Array(1)), null)
  assert.equal(listFrom(new Uint8Array(16).fill(255)), null)
})

test('the numbers of errors are those of the C++ enum', () => {
  const header = readFileSync('native/include/pando/result.h', 'utf8')
  const names = /kNames\[kErrorCodeCount\] = \{([^}]*)\}/.exec(header)?.[1]?.match(/[A-Z_]+/g) ?? []
  assert.ok(names.length >= 12)
  for (const [status, name] of names.entries()) {
    if (name === 'PEER_UNREACHABLE' || name === 'PEER_REFUSED') assert.equal(codeOf(status), 'INTERNAL')
    else {
      assert.equal(codeOf(status), name)
      assert.equal(statusOf(codeOf(status)), status)
    }
  }
  assert.equal(codeOf(200), 'INTERNAL')
})
