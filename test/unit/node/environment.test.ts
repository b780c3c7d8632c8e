import assert from 'node:assert/strict'
import { test } from 'node:test'
import { realEnvironment } from '../../../core/node/environment.ts'

const { clock } = realEnvironment

test('a sleep ends by time, or with the reason of its signal', async () => {
  const before = clock.monotonic()
  await clock.sleep(20)
  await clock.sleep(5, new AbortController().signal)
  assert.ok(clock.monotonic() - before >= 23, 'timers are at most a millisecond early')
  const control = new AbortController()
  const reason = new Error('no longer needed')
  const sleeping = clock.sleep(60_000, control.signal)
  control.abort(reason)
  await assert.rejects(sleeping, reason)
  await assert.rejects(clock.sleep(60_000, control.signal), reason)
})
