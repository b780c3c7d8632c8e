import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Exchange } from '../../../core/gateway/s3/exchange.ts'
import { OpenExchanges } from '../../../core/gateway/s3/open-exchanges.ts'
import { seededRandom } from '../../kit/random.ts'

test('those that were added and not removed are there, each once, in whatever order they end', () => {
  const random = seededRandom(7)
  const exchanges = new OpenExchanges()
  const open = new Map<number, ReturnType<OpenExchanges['add']>>()
  const held = (): number[] => [...exchanges].map(({ atMs }) => atMs).sort((left, right) => left - right)
  for (let number = 0; number < 2000; number++) {
    if (open.size > 0 && random.below(2) === 0) {
      const ends = random.pick([...open.keys()])
      const one = open.get(ends)
      assert.ok(one)
      exchanges.remove(one)
      open.delete(ends)
    } else open.set(number, exchanges.add({} as Exchange, number))
    assert.deepEqual(held(), [...open.keys()])
  }
  for (const one of exchanges) exchanges.remove(one)
  assert.deepEqual(held(), [])
})
