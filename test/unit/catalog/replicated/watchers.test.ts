import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Watchers } from '../../../../core/catalog/replicated/watchers.ts'
import { FakeClock } from '../../../kit/fake-clock.ts'

test('a wait ends when its condition holds, by time, or with its signal', async () => {
  const clock = new FakeClock()
  const lasting = new AbortController()
  const watchers = new Watchers(clock, lasting.signal)
  const control = new AbortController()
  let isTrue = false
  const holds = watchers.until(() => isTrue, control.signal, 1000)
  const late = watchers.until(() => false, control.signal, 100)
  const aborted = watchers.until(() => false, control.signal, 5000)
  const closed = watchers.until(() => false, lasting.signal, 5000)
  const shown = watchers.until(() => isTrue, lasting.signal, 5000)
  for (const one of [aborted, closed]) one.catch(() => undefined)
  await clock.advance(99)
  isTrue = true
  watchers.changed()
  assert.equal(await holds, true)
  assert.equal(await shown, true)
  await clock.advance(1)
  assert.equal(await late, false)
  control.abort(new Error('enough'))
  await assert.rejects(aborted, /enough/)
  await assert.rejects(
    watchers.until(() => true, control.signal, 1),
    /enough/,
  )
  lasting.abort(new Error('over'))
  await assert.rejects(closed, /over/)
  await assert.rejects(
    watchers.until(() => true, lasting.signal, 1),
    /over/,
  )
})

test('many waits have one timer, set anew only for one that is due earlier', async () => {
  const clock = new FakeClock()
  const { signal } = new AbortController()
  const watchers = new Watchers(clock, signal)
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

test('a timer that is near is not taken back for a nearer one, and fires in vain', async () => {
  const clock = new FakeClock()
  const { signal } = new AbortController()
  const watchers = new Watchers(clock, signal)
  const later = watchers.until(() => false, signal, 50)
  const sooner = watchers.until(() => false, signal, 10)
  await clock.advance(0)
  assert.equal(clock.pending, 2)
  await clock.advance(10)
  assert.equal(await sooner, false)
  let isOver = false
  void later.then(() => (isOver = true))
  await clock.advance(39)
  assert.equal(isOver, false)
  await clock.advance(1)
  assert.equal(await later, false)
  assert.equal(clock.pending, 0)
})
