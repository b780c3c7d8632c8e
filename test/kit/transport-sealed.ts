import assert from 'node:assert/strict'
import type { ChunkSession, TransportListener } from '../../core/contract/transport.ts'
import {
  eventually,
  type Ground,
  getChunk,
  type Law,
  outcomes,
  pattern,
  putChunk,
  rejectsWith,
  testId,
} from './transport-place.ts'
import type { WireTap } from './wire-tap.ts'

const bodyBytes = 200_000
const pieceBytes = 16

/** Pieces of a body, and the id of its chunk: what must never be seen on the way. */
const giveaways = (seed: number): readonly Uint8Array[] => {
  const body = pattern(seed, bodyBytes)
  const count = Math.floor(bodyBytes / 5000)
  return [
    testId(seed),
    ...Array.from({ length: count }, (_, at) => body.subarray(at * 5000, at * 5000 + pieceBytes)),
  ]
}

function assertUnseen(tap: WireTap, seed: number): void {
  for (const seen of [Buffer.concat(tap.recorded), Buffer.concat(tap.answered)]) {
    assert.ok(seen.length > bodyBytes, 'the tap has not seen the body go by')
    for (const piece of giveaways(seed))
      assert.equal(seen.includes(Buffer.from(piece)), false, 'a body went by in the clear')
  }
}

interface Tapped {
  readonly listener: TransportListener
  readonly tap: WireTap
  readonly session: ChunkSession
}

async function tapped(ground: Ground): Promise<Tapped> {
  const listener = await ground.listen()
  const tap = await ground.tap(listener.address)
  const session = await ground.connect(tap.address)
  assert.notEqual(session.peer.capabilities, 0, 'the session is not encrypted')
  return { listener, tap, session }
}

const flipped = (bytes: Uint8Array, at: number): Uint8Array => {
  const changed = Uint8Array.from(bytes)
  changed[at] = (changed[at] ?? 0) ^ 0x40
  return changed
}

const headerBytes = 64
const tagBytes = 16
const sealedHeaderBytes = headerBytes + tagBytes

/** What somebody between two nodes sees of an encrypted session, and what he can do to it. */
export function proveSealed(law: Law): void {
  law('who listens in learns nothing of a body, nor of its name', async (ground) => {
    const { tap, session } = await tapped(ground)
    await putChunk(ground.own, session, 1, bodyBytes)
    await getChunk(session, 1, bodyBytes)
    assertUnseen(tap, 1)
  })

  law('two sessions that carry the same look different all the same', async (ground) => {
    const { listener, tap, session } = await tapped(ground)
    const other = await ground.tap(listener.address)
    const second = await ground.connect(other.address)
    await putChunk(ground.own, session, 1, bodyBytes)
    await putChunk(ground.own, second, 1, bodyBytes)
    const seen = Buffer.concat(other.recorded)
    const first = Buffer.concat(tap.recorded)
    for (let at = first.length - bodyBytes; at + pieceBytes <= first.length; at += 5000) {
      assert.equal(seen.includes(first.subarray(at, at + pieceBytes)), false)
    }
  })

  // Of a PUT: header, its tag, body, the tag of the body.
  const places: readonly (readonly [what: string, at: number])[] = [
    ['its header', 12],
    ["its header's tag", headerBytes + 3],
    ['the first byte of its body', sealedHeaderBytes],
    ['a byte in its body', sealedHeaderBytes + 100_001],
    ["its body's tag", sealedHeaderBytes + bodyBytes + tagBytes - 1],
  ]
  for (const [what, at] of places) {
    law(
      `a put that is changed on its way (${what}) is never stored, and ends the session`,
      async (ground) => {
        const { listener, tap, session } = await tapped(ground)
        let passed = 0
        tap.replace = (bytes, isToServer) => {
          if (!isToServer) return undefined
          const here = at - passed
          passed += bytes.length
          return here < bytes.length ? [flipped(bytes, here)] : undefined
        }
        const [outcome] = await outcomes([putChunk(ground.own, session, 1, bodyBytes)])
        assert.ok(outcome === 'PROTOCOL_ERROR' || outcome === 'PEER_UNREACHABLE', outcome)
        await session.ended
        await eventually(() => listener.sessionCount === 0, 'the session goes on at the server')
        assert.equal(await ground.served.has(testId(1)), false)
      },
    )
  }

  const answers: readonly (readonly [what: string, replace: (bytes: Uint8Array) => readonly Uint8Array[]])[] =
    [
      ['changed', (bytes) => [flipped(bytes, bytes.length - 1)]],
      ['repeated', (bytes) => [bytes, bytes]],
      ['cut', (bytes) => [bytes.subarray(1)]],
    ]
  for (const [what, replace] of answers) {
    law(`an answer that is ${what} on its way ends the session`, async (ground) => {
      const { tap, session } = await tapped(ground)
      assert.equal(await session.has(testId(1)), false)
      // One frame and no more: what follows tells the difference.
      tap.replace = (bytes, isToServer) => (isToServer ? undefined : replace(bytes))
      const [first, second] = [outcomes([session.has(testId(1))]), outcomes([session.has(testId(2))])]
      const results = [...(await first), ...(await second), ...(await outcomes([session.has(testId(3))]))]
      assert.ok(results.includes('PROTOCOL_ERROR'), results.join())
      assert.equal((await session.ended).error?.code, 'PROTOCOL_ERROR')
    })
  }

  law('what a client has said, sent back to it, ends the session', async (ground) => {
    const { tap, session } = await tapped(ground)
    tap.recorded.length = 0
    assert.equal(await session.has(testId(1)), false)
    const said = Buffer.concat(tap.recorded)
    tap.replace = (_bytes, isToServer) => (isToServer ? undefined : [said])
    await rejectsWith('PROTOCOL_ERROR', session.has(testId(1)))
  })

  law('what a client has said is said in vain by somebody else, and a second time', async (ground) => {
    const { listener, tap, session } = await tapped(ground)
    await putChunk(ground.own, session, 1, 1000)
    assert.equal(await session.delete(testId(1)), true)
    const said = Buffer.concat(tap.recorded)
    const stranger = await ground.wire.connect(listener.address, new AbortController().signal)
    await stranger.write([said]).catch(() => undefined)
    // Its nonce is another one, so the proof in what was said is none.
    for (;;) if ((await stranger.read().catch(() => undefined)) === undefined) break
    stranger.destroy()
    assert.equal(listener.sessionCount, 1)
    assert.equal(await ground.served.has(testId(1)), false)
    // On its own connection the frames come a second time.
    const last = said.subarray(said.length - sealedHeaderBytes)
    tap.replace = (bytes, isToServer) => (isToServer ? [last, bytes] : undefined)
    await outcomes([session.has(testId(2))])
    await session.ended
    await eventually(() => listener.sessionCount === 0, 'a repeated frame was taken')
  })
}
