import assert from 'node:assert/strict'
import test from 'node:test'
import { fileURLToPath } from 'node:url'
import { loadSync } from '@grpc/proto-loader'
import fc from 'fast-check'
import { StorageError } from '../../../core/contract/errors.ts'
import {
  decodeParcel,
  decodePiece,
  decodeQuestion,
  encodeParcel,
  encodePiece,
  encodeQuestion,
  makeLetter,
} from '../../../core/control/region-peers/wire.ts'

const proto = loadSync(
  fileURLToPath(new URL('../../../../core/control/region-peers/region-peers.proto', import.meta.url)),
  { defaults: true, longs: Number },
)

/** What a general implementation makes of the same message. */
function general(name: string): { encode(value: object): Buffer; decode(bytes: Uint8Array): unknown } {
  const service = proto['pando.peers.v1.RegionPeers'] as unknown as Record<
    string,
    { requestSerialize(value: object): Buffer; requestDeserialize(bytes: Uint8Array): unknown } & {
      responseSerialize(value: object): Buffer
      responseDeserialize(bytes: Uint8Array): unknown
    }
  >
  const talk = service['Talk']
  const read = service['Read']
  assert.ok(talk !== undefined && read !== undefined)
  if (name === 'Parcel') return { encode: talk.requestSerialize, decode: talk.requestDeserialize }
  if (name === 'Question') return { encode: read.requestSerialize, decode: read.requestDeserialize }
  return { encode: read.responseSerialize, decode: read.responseDeserialize }
}

const plain = (value: unknown): unknown =>
  JSON.parse(
    JSON.stringify(value, (_, part: unknown) =>
      typeof part === 'object' && part !== null && 'type' in part && part.type === 'Buffer' && 'data' in part
        ? Buffer.from(part.data as number[]).toString('hex')
        : part instanceof Uint8Array
          ? Buffer.from(part).toString('hex')
          : part,
    ),
  )

const letter = fc
  .record({
    id: fc.nat({ max: 0xffff_ffff }),
    topic: fc.string({ maxLength: 40, unit: 'grapheme' }),
    body: fc.uint8Array({ maxLength: 300 }),
    errorCode: fc.constantFrom('', 'CONFLICT'),
    errorReason: fc.string({ maxLength: 200, unit: 'grapheme' }),
    isCancelled: fc.boolean(),
  })
  .map(makeLetter)

test('parcels, questions and pieces are those of the .proto, in both directions', () => {
  fc.assert(
    fc.property(fc.array(letter, { maxLength: 20 }), (letters) => {
      const { encode, decode } = general('Parcel')
      assert.deepEqual(plain(decode(encodeParcel(letters))), plain({ letters }))
      assert.deepEqual(plain(decodeParcel(encode({ letters }))), plain(letters))
    }),
  )
  fc.assert(
    fc.property(fc.string({ unit: 'grapheme' }), fc.uint8Array({ maxLength: 500 }), (topic, body) => {
      const question = general('Question')
      assert.deepEqual(plain(question.decode(encodeQuestion({ topic, body }))), plain({ topic, body }))
      assert.deepEqual(plain(decodeQuestion(question.encode({ topic, body }))), plain({ topic, body }))
      const piece = general('Piece')
      assert.deepEqual(plain(piece.decode(encodePiece(body))), plain({ body }))
      assert.deepEqual(plain(decodePiece(piece.encode({ body }))), plain(body))
    }),
  )
})

test('bytes that are no message are PROTOCOL_ERROR or a message, never anything else', () => {
  const tryAll = (bytes: Uint8Array): void => {
    for (const decode of [decodeParcel, decodeQuestion, decodePiece]) {
      try {
        decode(bytes)
      } catch (error) {
        assert.ok(error instanceof StorageError && error.code === 'PROTOCOL_ERROR', String(error))
      }
    }
  }
  fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), tryAll), { numRuns: 2000 })
  fc.assert(
    fc.property(
      fc.array(letter, { minLength: 1, maxLength: 4 }),
      fc.nat(),
      fc.nat(255),
      (letters, at, byte) => {
        const bytes = encodeParcel(letters)
        if (bytes.length > 0) bytes[at % bytes.length] = byte
        tryAll(bytes)
        tryAll(bytes.subarray(0, at % (bytes.length + 1)))
      },
    ),
    { numRuns: 1000 },
  )
})

test('fields of a newer version are passed over', () => {
  // Field 15 as a varint, as eight bytes, as bytes, as four bytes; then a piece.
  const unknown = Buffer.from('78ff01' + '790102030405060708' + '7a03616263' + '7d01020304', 'hex')
  const piece = decodePiece(Buffer.concat([unknown, encodePiece(Buffer.from('hello'))]))
  assert.equal(Buffer.from(piece).toString(), 'hello')
})
