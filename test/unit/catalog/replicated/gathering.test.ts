import assert from 'node:assert/strict'
import { test } from 'node:test'
import { gatherRecords } from '../../../../core/catalog/replicated/gathered-tail.ts'
import { RecordGathering } from '../../../../core/catalog/replicated/gathering.ts'
import type { StreamRecord } from '../../../../core/contract/order-stream.ts'
import { FakeClock } from '../../../kit/fake-clock.ts'

/** A stream that gives when the test does, read as a replica reads it. */
function open() {
  const clock = new FakeClock()
  const gathering = new RecordGathering()
  let give: (batch: readonly StreamRecord[]) => void = () => undefined
  let waiting: (readonly StreamRecord[])[] = []
  let isOver = false
  let sequence = 0
  async function* source(): AsyncGenerator<readonly StreamRecord[]> {
    while (!isOver) {
      const batch = waiting.shift()
      if (batch !== undefined) yield batch
      else
        await new Promise<void>((resolve) => {
          give = () => resolve()
        })
    }
  }
  const taken: number[] = []
  const reading = (async () => {
    for await (const records of gatherRecords(source(), gathering, clock)) taken.push(records.length)
  })()
  return {
    clock,
    gathering,
    taken,
    reading,
    push(count = 1): void {
      const batch = Array.from({ length: count }, () => ({ sequence: ++sequence, bytes: new Uint8Array(1) }))
      waiting = [...waiting, batch]
      give(batch)
    },
    end(): void {
      isOver = true
      give([])
    },
  }
}

test('a record of the only node that writes is applied at once', async () => {
  const { clock, gathering, taken, push, end, reading } = open()
  for (let round = 1; round <= 3; round++) {
    push()
    await clock.advance(0)
    assert.equal(taken.length, round)
    gathering.noteCommit(['a'], 10, clock.monotonic())
  }
  end()
  await reading
})

test('where several nodes write, what comes soon shares a commit; in vain it is not waited for again and again', async () => {
  const { clock, gathering, taken, push, end, reading } = open()
  const commit = (): void => gathering.noteCommit(['a', 'b', 'c'], 10, clock.monotonic())
  for (let round = 0; round < 20; round++) commit()
  push()
  await clock.advance(1)
  push()
  await clock.advance(1)
  assert.deepEqual(taken, [])
  push()
  await clock.advance(0)
  assert.deepEqual(taken, [3])
  for (let round = 1; round <= 4; round++) {
    commit()
    push()
    await clock.advance(2)
    assert.equal(taken.length, round)
    await clock.advance(6)
    assert.equal(taken.length, round + 1)
  }
  commit()
  push()
  await clock.advance(0)
  assert.equal(taken.length, 6)
  // Those who have not written for a while are nobody to wait for.
  await clock.advance(300)
  gathering.noteCommit(['a'], 10, clock.monotonic())
  assert.equal(gathering.wait(1), undefined)
  end()
  await reading
})
