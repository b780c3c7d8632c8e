import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type DataPlanePort, portOps } from '../../../native/data-plane-port.ts'
import { PeerDoor } from '../../../native/peer-door.ts'
import { PeerPages, peerPagesBytes } from '../../../native/peer-pages.ts'
import { RequestRing } from '../../../native/request-ring.ts'
import type { RingPair } from '../../../native/ring-pair.ts'
import type { SlabPool } from '../../../native/slab-pool.ts'
import { outcomes } from '../../kit/transport-place.ts'

const wordsOfEntry = 16
const cancelledStatus = 10

/** A door whose data plane is the test: it sees what was sent, and says when each request is answered and how. */
function fakeDoor(mostUnderWay: number) {
  const words = new Int32Array(4096)
  const bytes = new Uint8Array(words.buffer)
  const completionsFrom = words.length / 2
  const submissions: number[] = []
  let completions: number[] = []
  const rings = {
    words,
    bytes,
    hasRoom: true,
    nextSubmission() {
      const first = submissions.length * wordsOfEntry
      assert.ok(first < completionsFrom)
      submissions.push(first)
      return first
    },
    drain(handle: (first: number) => void) {
      const taken = completions
      completions = []
      for (const first of taken) handle(first)
      return false
    },
  }
  const requests = new RequestRing(rings as unknown as RingPair, 0, mostUnderWay, () => undefined)
  const port = { requests } as unknown as DataPlanePort
  const pages = new PeerPages(new ArrayBuffer(peerPagesBytes), 0)
  return {
    door: new PeerDoor(port, undefined as unknown as SlabPool, pages),
    /** By its operation; a cancellation with the token that it ends. */
    sent: () =>
      submissions.map((first) => {
        const op = (words[first + 2] ?? 0) & 0xff
        return op === portOps.peerCancel ? `cancel ${words[first + 4]}` : `${op} as ${words[first]}`
      }),
    answer(token: number, status = 0) {
      const first = completionsFrom + completions.length * wordsOfEntry
      words.fill(0, first, first + wordsOfEntry)
      words[first] = token
      words[first + 2] = status
      completions.push(first)
      requests.drain()
    },
    requests,
  }
}

test('a cancellation that waited until its request was answered ends nobody else', async () => {
  const { door, sent, answer, requests } = fakeDoor(2)
  const abort = new AbortController()
  const asked = [
    door.ask({ op: portOps.peerGet, signal: abort.signal }),
    door.ask({ op: portOps.peerHas }),
    // Waits, since two are under way.
    door.ask({ op: portOps.peerPut }),
  ]
  abort.abort()
  const before = [`${portOps.peerGet} as 0`, `${portOps.peerHas} as 1`]
  assert.deepEqual(sent(), before)
  // What was cancelled is answered first: the one that waits begins with its token.
  answer(0)
  answer(1)
  assert.deepEqual(sent(), [...before, `${portOps.peerPut} as 0`])
  answer(0)
  assert.deepEqual(await outcomes(asked), ['ok', 'ok', 'ok'])
  assert.equal(requests.underWay + requests.waiting, 0)
})

test('a cancellation that waited is sent when its request is still under way', async () => {
  const { door, sent, answer, requests } = fakeDoor(2)
  const abort = new AbortController()
  const cancelled = door.ask({ op: portOps.peerGet, signal: abort.signal })
  const other = door.ask({ op: portOps.peerHas })
  abort.abort()
  answer(1)
  await other
  assert.deepEqual(sent().slice(2), ['cancel 0'])
  answer(0, cancelledStatus)
  await assert.rejects(cancelled, { code: 'CANCELLED' })
  answer(1)
  assert.equal(requests.underWay + requests.waiting, 0)
})
