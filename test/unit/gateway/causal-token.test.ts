import assert from 'node:assert/strict'
import { test } from 'node:test'
import { StorageError } from '../../../core/contract/errors.ts'
import {
  type CausalPlace,
  decodeToken,
  encodeToken,
  maxTokenChars,
} from '../../../core/gateway/s3/causal-token.ts'
import { SeededRandom } from '../../simulation/seeded-random.ts'

const log = (digit: string): string => digit.repeat(24)
const place = (part: Partial<CausalPlace> = {}): CausalPlace => ({
  ...{ region: 1, epoch: 1024, log: log('a'), lsn: 7 },
  ...part,
})
const isRefused = (error: unknown): boolean =>
  error instanceof StorageError && error.code === 'INVALID_ARGUMENT' && error.details['ArgumentName'] !== ''

test('a token says the same after its journey, in one form only', () => {
  const most = 2 ** 48 - 1
  const places = [
    place({ log: log('c'), lsn: 0 }),
    place({ log: log('0'), region: 65_535, epoch: most, lsn: most }),
    place(),
  ]
  const text = encodeToken({ bucket: 'größe', places })
  assert.match(text, /^[A-Za-z0-9_-]+$/)
  const read = decodeToken(text)
  assert.equal(read.bucket, 'größe')
  assert.deepEqual(new Set(read.places), new Set(places))
  assert.equal(encodeToken({ ...read, places: read.places.toReversed() }), text)
})

test('the longest token fits, and a longer value is not even looked at', () => {
  const places = Array.from({ length: 16 }, (_, index) => place({ log: log(index.toString(16)) }))
  const text = encodeToken({ bucket: 'b'.repeat(255), places })
  assert.ok(text.length <= maxTokenChars, `${text.length} > ${maxTokenChars}`)
  assert.equal(decodeToken(text).places.length, 16)
  assert.throws(() => decodeToken('A'.repeat(maxTokenChars + 1)), isRefused)
})

test('what no gateway has written is refused: empty, cut, longer, changed, of another version', () => {
  const places = [place(), place({ log: log('b') })]
  const text = encodeToken({ bucket: 'b', places })
  const bytes = Buffer.from(text, 'base64url')
  const wrong = [
    '',
    ' ',
    'not a token',
    `${text}, ${text}`,
    `${text}A`,
    `${text}=`,
    text.slice(0, -1),
    Buffer.concat([Buffer.of(2), bytes.subarray(1)]).toString('base64url'),
    // A count of none, a name that runs over the end, the same log twice.
    Buffer.of(1, 1, 0x62, 0).toString('base64url'),
    Buffer.of(1, 255, 0x62, 1).toString('base64url'),
    encodeToken({ bucket: 'b', places: [place(), place()] }),
  ]
  for (const value of wrong) assert.throws(() => decodeToken(value), isRefused, JSON.stringify(value))
  for (let length = 0; length < bytes.length; length++) {
    assert.throws(() => decodeToken(bytes.toString('base64url', 0, length)), isRefused, `cut at ${length}`)
  }
})

test('random bytes are either refused or a token that is written as it came', () => {
  const random = new SeededRandom(11)
  let refused = 0
  for (let round = 0; round < 5_000; round++) {
    const bytes = random.fill(new Uint8Array(4 + (round % 60)))
    bytes[0] = 1
    bytes[1] = round % 5
    const text = Buffer.from(bytes).toString('base64url')
    try {
      assert.equal(encodeToken(decodeToken(text)), text)
    } catch (error) {
      assert.ok(isRefused(error), String(error))
      refused++
    }
  }
  assert.ok(refused > 4_000, `${refused} refused`)
})
