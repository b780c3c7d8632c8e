import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import { fetchVersion, UnfetchableVersion } from '../../../federation/replication/fetch-version.ts'
import type { PeerRegion } from '../../../federation/replication/peer.ts'
import { plainAttributes } from '../../kit/catalog-commands.ts'
import { createMemoryStore } from '../../kit/memory-store.ts'
import { testRegion } from '../../kit/replicated-buckets.ts'

const { signal } = new AbortController()
const body = Uint8Array.from({ length: 5000 }, (_, at) => at & 0xff)
const clock = { now: () => 0, monotonic: () => 0, sleep: async () => undefined }

/** What becomes of the body when the other region answers with these bytes, in whole answers. */
async function fetched(answer: (offset: number, asked: number) => Iterable<Uint8Array>) {
  const chunks = createMemoryStore(clock)
  chunks.digest = () => {
    const hash = createHash('md5')
    return {
      async update(buffer, offset, length) {
        hash.update(buffer.bytes.subarray(offset, offset + length))
      },
      finish: async () => new Map([['md5', Uint8Array.from(hash.digest())]]),
      abort: () => undefined,
    }
  }
  const { newWriteId } = testRegion(1)
  const inFlight = new Set<Uint8Array>()
  const writes = {
    begin() {
      const writeId = newWriteId()
      inFlight.add(writeId)
      return writeId
    },
    settle: (writeId: Uint8Array) => void inFlight.delete(writeId),
  }
  let asked = 0
  const nobody = async (): Promise<never> => assert.fail('nobody asks for that')
  const peer: PeerRegion = {
    ...{ regionId: 1, offers: nobody, pull: nobody, repair: nobody },
    async *body({ offset }) {
      yield* answer(offset, ++asked)
    },
  }
  const version = {
    ...{ versionId: new Uint8Array(16), isNull: true, deleteMarker: false, owner: 'root' },
    ...{ byteLength: body.length, etag: createHash('md5').update(body).digest('hex') },
    ...{ attributes: plainAttributes, bodies: [{ writeId: newWriteId(), byteLength: body.length }] },
  }
  const outcome = await fetchVersion({ chunks, writes, clock, chunkBytes: 1024 }, peer, 'b', version, signal)
    .then(({ layout, settle }) => {
      settle()
      return layout.kind
    })
    .catch((reason: unknown) => reason)
  assert.equal(chunks.held, 0, 'every buffer was given back')
  assert.equal(inFlight.size, 0, 'what was stored is left to the collector')
  return { outcome, asked }
}

const isWrong = (outcome: unknown, why: RegExp): void => {
  assert.ok(
    outcome instanceof UnfetchableVersion,
    `the version is told to be what is wrong: ${String(outcome)}`,
  )
  assert.match(outcome.message, why)
}

test('a body that is shorter than its entry says waits by itself, and is not asked for again and again', async () => {
  const { outcome, asked } = await fetched((offset) => [body.subarray(offset, 3000)])
  isWrong(outcome, /has 3000 of 5000 bytes/)
  assert.equal(asked, 2)
  isWrong((await fetched(() => [])).outcome, /has 0 of 5000 bytes/)
})

test('one that is longer, endless or of other bytes waits as well', async () => {
  isWrong((await fetched(() => [body, Uint8Array.of(1)])).outcome, /longer/)
  let pieces = 0
  const endless = function* (): Iterable<Uint8Array> {
    for (;;) {
      pieces++
      yield new Uint8Array(1000)
    }
  }
  isWrong((await fetched(endless)).outcome, /longer/)
  assert.equal(pieces, 6)
  isWrong((await fetched(() => [body.toReversed()])).outcome, /ETag/)
})

test('one that comes in answers of a piece each is the body', async () => {
  const { outcome, asked } = await fetched((offset) => [body.subarray(offset, offset + 700)])
  assert.deepEqual([outcome, asked], ['chunks', 8])
})
