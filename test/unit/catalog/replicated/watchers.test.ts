import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Watchers } from '../../../../core/catalog/replicated/watchers.ts'
import { FakeClock } from '../../../kit/fake-clock.ts'

test('a wait ends when its condition holds, by time, or with its signal', async () => {
  const clock = new FakeClock()
  const watchers = new Watchers(clock)
  const control = new AbortController()
  let isTrue = false
  const holds = watchers.until(() => isTrue, control.signal, 1000)
  const late = watchers.until(() => false, control.signal, 100)
  const aborted = watchers.until(() => false, control.signal, 5000)
  aborted.catch(() => undefined)
  await clock.advance(99)
  isTrue = true
  watchers.changed()
  assert.equal(await holds, true)
  await clock.advance(1)
  assert.equal(await late, false)
  control.abort(new Error('enough'))
  await assert.rejects(aborted, /enough/)
  await assert.rejects(
    watchers.until(() => true, control.signal, 1),
    /enough/,
  )
})

test('many waits have one timer, set anew only for one that is due earlier', async () => {
  const clock = new FakeClock()
  const watchers = new Watchers(clock)
  const { signal } = new AbortController()
  const never = (): boolean => false
  const waits = [300, 200, 400, 250].map((ms) => watchers.until(never, signal, ms))
  await clock.advance(0)
  assert.equal(clock.pending, 1)
  await clock.advance(399)
  assert.deepEqual(await Promise.all([waits[0], waits[1], waits[3]]), [false, false, false])
  assert.equal(clock.pending, 1)
  await clock.advance(1)
  assert.equal(await waits[2], false)
  assert.equal(clock.pending, 0)
  const last = watchers.until(never, signal, 100)
  watchers.close()
  await clock.advance(0)
  assert.equal(clock.pending, 0)
  last.catch(() => undefined)
})
