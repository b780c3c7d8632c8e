import assert from 'node:assert/strict'
import test from 'node:test'
import fc from 'fast-check'
import { BoundedNames } from '../../../core/qos/bounded-names.ts'
import { type HeapElement, IndexedHeap } from '../../../core/qos/indexed-heap.ts'
import { LatencyWindow } from '../../../core/qos/latency-window.ts'
import { nameMatcher } from '../../../core/qos/name-pattern.ts'
import { fnv1a, RequestFacts } from '../../../core/qos/request-facts.ts'
import { fnv1a32 } from '../../../plugins/abi/fnv1a.ts'
import { FakeClock, fakeEnvironment } from '../../kit/fake-clock.ts'
import { requestOf } from '../../kit/qos-bench.ts'

test('a heap gives its elements in order, with any taken out or changed in between', () => {
  type Element = HeapElement & { value: number }
  fc.assert(
    fc.property(
      fc.array(
        fc.record({
          act: fc.constantFrom('push', 'pop', 'remove', 'change'),
          value: fc.nat(50),
          at: fc.nat(),
        }),
      ),
      (steps) => {
        const heap = new IndexedHeap<Element>((left, right) => left.value < right.value)
        const model: Element[] = []
        for (const { act, value, at } of steps) {
          const chosen = model[at % Math.max(1, model.length)]
          if (act === 'push' || chosen === undefined) {
            const element = { heapIndex: -1, value }
            heap.push(element)
            model.push(element)
          } else if (act === 'pop') {
            const popped = heap.pop()
            assert.equal(popped?.value, Math.min(...model.map((element) => element.value)))
            model.splice(model.indexOf(popped ?? chosen), 1)
          } else if (act === 'remove') {
            heap.remove(chosen)
            assert.equal(chosen.heapIndex, -1)
            model.splice(model.indexOf(chosen), 1)
          } else {
            chosen.value = value
            heap.update(chosen)
          }
          assert.equal(heap.size, model.length)
          if (model.length > 0) {
            assert.equal(heap.peek()?.value, Math.min(...model.map((element) => element.value)))
          }
        }
      },
    ),
  )
})

test('patterns match as a regular expression would', () => {
  const text = fc.string({ unit: fc.constantFrom('a', 'b', '*'), maxLength: 8 })
  const name = fc.string({ unit: fc.constantFrom('a', 'b'), maxLength: 10 })
  fc.assert(
    fc.property(text, name, (pattern, candidate) => {
      const expected = new RegExp(`^${pattern.replaceAll('*', '.*')}$`).test(candidate)
      assert.equal(nameMatcher(pattern)(candidate), expected, `${pattern} ${candidate}`)
    }),
    { numRuns: 2000 },
  )
})

test('a pattern of a thousand stars is matched at once', () => {
  assert.equal(nameMatcher(`${'a*'.repeat(1000)}b`)('a'.repeat(5000)), false)
})

test('names are bounded, and what is in use or was asked for lately stays', () => {
  const busy = new Set<string>(['keep'])
  const names = new BoundedNames(50, (name) => ({ name, isIdle: () => !busy.has(name) }))
  const kept = names.get('keep', 0)
  for (let index = 0; index < 10_000; index++) {
    names.get(`stranger ${index}`, 0)
    assert.ok(names.size <= 50)
    assert.equal(names.get('keep', 0), kept)
  }
})

test('names are bounded even when everything is in use', () => {
  const names = new BoundedNames(50, (name) => ({ name, isIdle: () => false }))
  for (let index = 0; index < 1000; index++) names.get(`n${index}`, 0)
  assert.equal(names.size, 50)
})

test('percentiles are right within a bucket, and forget what is old', () => {
  const window = new LatencyWindow()
  for (let index = 1; index <= 1000; index++) window.record(index / 10, 1000 + index)
  const p50 = window.p50Ms(2500)
  const p99 = window.p99Ms(2500)
  assert.ok(p50 >= 50 && p50 <= 50 * 1.13, String(p50))
  assert.ok(p99 >= 99 && p99 <= 99 * 1.13, String(p99))
  window.record(1, 30_000)
  assert.ok(window.p99Ms(30_000) <= 1.13)
  assert.equal(window.p99Ms(90_000), 0)
})

test('attributes are hashed as policies expect them', () => {
  fc.assert(
    fc.property(fc.string({ maxLength: 100, unit: 'grapheme' }), (text) => {
      assert.equal(fnv1a(text), fnv1a32(text.slice(0, 512)))
    }),
  )
})

test('the hash of a request is that of what it asks for, written in one line', () => {
  const facts = new RequestFacts(fakeEnvironment(new FakeClock()))
  const name = fc.string({ maxLength: 300, unit: fc.constantFrom('a', '/', '~', '\0', 'é', '\u{1f600}') })
  const plain = fc.string({ maxLength: 600, unit: 'grapheme-ascii' })
  fc.assert(
    fc.property(fc.oneof(name, plain), plain, fc.oneof(name, plain), (tenant, bucket, key) => {
      facts.describe(requestOf(tenant, { bucket, key }))
      const text = `head\0${tenant}\0${bucket}\0${key}`
      assert.equal(facts.requestHash, (BigInt(fnv1a(text, 0x9747b28c)) << 32n) | BigInt(fnv1a(text)))
    }),
  )
})
