import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import {
  checkLinearizable,
  type KeyInput,
  type KeyOutput,
  type Operation,
  objectKeyModel,
} from '../../kit/linearizability.ts'

type KeyOperation = Operation<KeyInput, KeyOutput>

const operation = (
  callMs: number,
  returnMs: number,
  input: KeyInput,
  output: KeyOutput | undefined,
  key = 'k',
): KeyOperation => ({ key, input, output, callMs, returnMs })
const put = (callMs: number, returnMs: number, etag: string): KeyOperation =>
  operation(callMs, returnMs, { type: 'put', etag }, { done: true })
const get = (callMs: number, returnMs: number, etag: string | null): KeyOperation =>
  operation(callMs, returnMs, { type: 'get' }, { etag })

const verdict = (...history: KeyOperation[]) => checkLinearizable(history, objectKeyModel).linearizable

test('a read after a write has returned must see it', () => {
  assert.equal(verdict(put(0, 10, 'a'), get(20, 30, 'a')), true)
  assert.equal(verdict(put(0, 10, 'a'), get(20, 30, null)), false)
})

test('a read that overlaps a write may see either, but two reads in turn may not go back', () => {
  assert.equal(verdict(put(0, 100, 'a'), get(10, 20, null)), true)
  assert.equal(verdict(put(0, 100, 'a'), get(10, 20, 'a')), true)
  assert.equal(verdict(put(0, 100, 'a'), get(10, 20, 'a'), get(30, 40, null)), false)
})

test('of two conditional creations only one may win', () => {
  const create = (etag: string, output: KeyOutput): KeyOperation =>
    operation(0, 10, { type: 'put', etag, ifNoneMatch: '*' }, output)
  assert.equal(verdict(create('a', { done: true }), create('b', { failed: 'PRECONDITION_FAILED' })), true)
  assert.equal(verdict(create('a', { done: true }), create('b', { done: true })), false)
  assert.equal(
    verdict(create('a', { failed: 'PRECONDITION_FAILED' }), create('b', { failed: 'PRECONDITION_FAILED' })),
    false,
    'somebody must have won',
  )
})

test('a lost update is caught', () => {
  const swap = (callMs: number, ifMatch: string, etag: string): KeyOperation =>
    operation(callMs, callMs + 10, { type: 'put', etag, ifMatch }, { done: true })
  assert.equal(verdict(put(0, 1, 'a'), swap(10, 'a', 'b'), swap(30, 'b', 'c'), get(50, 60, 'c')), true)
  assert.equal(verdict(put(0, 1, 'a'), swap(10, 'a', 'b'), swap(12, 'a', 'c'), get(50, 60, 'c')), false)
})

test('a write without an answer may have happened, at any time later, or never', () => {
  const lost = operation(0, Number.POSITIVE_INFINITY, { type: 'put', etag: 'a' }, undefined)
  assert.equal(verdict(lost, get(10, 20, null)), true)
  assert.equal(verdict(lost, get(10, 20, null), get(30, 40, 'a')), true)
  assert.equal(verdict(lost, get(10, 20, 'a'), get(30, 40, null)), false)
})

test('a deleted object must not come back', () => {
  const remove = operation(20, 30, { type: 'delete' }, { done: true })
  assert.equal(verdict(put(0, 10, 'a'), remove, get(40, 50, null)), true)
  assert.equal(verdict(put(0, 10, 'a'), remove, get(40, 50, 'a')), false)
})

test('keys are judged each for itself, and the bad one is named', () => {
  const bad = operation(20, 30, { type: 'get' }, { etag: 'z' }, 'other')
  const result = checkLinearizable([put(0, 10, 'a'), get(20, 30, 'a'), bad], objectKeyModel)
  assert.equal(result.linearizable, false)
  assert.ok(result.linearizable === false && result.key === 'other')
})

test('giving up is no verdict', () => {
  const history = Array.from({ length: 12 }, (_, index) => put(0, 100, `e${index}`))
  const result = checkLinearizable([...history, get(200, 210, 'nothing')], objectKeyModel, { maxSteps: 50 })
  assert.equal(result.linearizable, 'unknown')
})

/** Runs operations on a real register at random instants within their intervals: linearizable by construction. */
const history = fc
  .array(
    fc.record({
      start: fc.nat(100),
      length: fc.integer({ min: 1, max: 30 }),
      point: fc.double({ min: 0, max: 1, noNaN: true }),
      kind: fc.constantFrom('get', 'put', 'create', 'swap', 'delete'),
    }),
    { minLength: 1, maxLength: 14 },
  )
  .map((plans): KeyOperation[] => {
    let state: string | null = null
    return plans
      .map((plan, index) => ({ ...plan, index, at: plan.start + plan.point * plan.length }))
      .sort((left, right) => left.at - right.at)
      .map(({ start, length, kind, index }): KeyOperation => {
        const etag = `e${index}`
        const times = [start, start + length] as const
        if (kind === 'get') return get(...times, state)
        const input: KeyInput =
          kind === 'delete'
            ? { type: 'delete' }
            : kind === 'create'
              ? { type: 'put', etag, ifNoneMatch: '*' }
              : kind === 'swap'
                ? { type: 'put', etag, ifMatch: state ?? 'none' }
                : { type: 'put', etag }
        const fails = (kind === 'create' && state !== null) || (kind === 'swap' && state === null)
        if (fails) {
          const failed = kind === 'create' ? 'PRECONDITION_FAILED' : 'NO_SUCH_KEY'
          return operation(...times, input, { failed })
        }
        state = kind === 'delete' ? null : etag
        return operation(...times, input, { done: true })
      })
  })

test('every history of a real register passes', () => {
  fc.assert(
    fc.property(history, (operations) => {
      assert.equal(checkLinearizable(operations, objectKeyModel).linearizable, true)
    }),
    { numRuns: 500 },
  )
})

test('a history with a value that nobody wrote fails', () => {
  fc.assert(
    fc.property(history, fc.nat(100), (operations, start) => {
      const forged = [...operations, get(start, start + 1, 'forged')]
      assert.equal(checkLinearizable(forged, objectKeyModel).linearizable, false)
    }),
    { numRuns: 200 },
  )
})
