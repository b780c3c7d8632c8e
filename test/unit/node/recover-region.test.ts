import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Progress } from '../../../core/catalog/replicated/peer-messages.ts'
import type { StoppedReplica } from '../../../core/catalog/replicated/recover-log.ts'
import { planOf } from '../../../core/node/cluster/recover-region.ts'

const log = 'a'.repeat(32)
const before = 'b'.repeat(32)
const names = ['n1', 'n2', 'n3', 'n4', 'n5']
const chain = new Uint8Array(32)

const replica: StoppedReplica = {
  incarnation: 'n3-disk',
  founding: {
    ...{ log, chain, position: 10, stream: 's', voterSets: [], replaced: [before] },
    ballot: { round: 4, by: 'n1' },
  },
  ...{ round: 4, position: 100, confirmed: 98, lastTimeMs: 1 },
  voters: names.map((name) => `${name} ${name}-disk`),
  map: {
    epoch: 7,
    replicas: 3,
    nodes: [...names, 'n6'].map((name) => ({
      ...{ name, incarnation: `${name}-disk`, voter: name !== 'n6', zone: '', rack: '', weight: 1 },
      ...{ state: 'active' as const, control: '127.0.0.1:1', transports: {} },
    })),
  },
  counts: { buckets: 1, versions: 2, liveBytes: 3 },
  groups: ['g'],
  sharedBuckets: 1,
}

const told = (name: string, more: Partial<Progress> = {}): [string, Progress] => [
  name,
  {
    ...{ incarnation: `${name}-disk`, log, position: 100, chain, sequence: 0, confirmed: 98 },
    ...{ ballot: { round: 4, by: 'n1' }, promised: { round: 4, by: 'n1' } },
    ...{ followsOrder: false, isWaiting: false },
    ...more,
  },
]
const plan = (...heard: [string, Progress][]) => planOf({ region: 'eu', node: 'n3' }, replica, new Map(heard))

test('who is not heard is taken out; those who run with the same log stay', () => {
  const { removed, refusal, nodes } = plan(told('n5', { position: 90 }), told('n6'))
  assert.equal(refusal, '')
  assert.deepEqual(removed, ['n1', 'n2', 'n4'])
  assert.deepEqual(
    nodes.map(({ state }) => state),
    ['silent', 'silent', 'this', 'silent', 'alive', 'alive'],
  )
})

test('a majority that is there refuses; nodes without a vote, with another disk or with an older log do not count', () => {
  assert.match(plan(told('n1'), told('n2')).refusal, /^3 of 5 voters are there \(n1, n2, n3\)/)
  assert.equal(plan(told('n1'), told('n6')).refusal, '')
  const back = plan(told('n1'), told('n2', { incarnation: 'new', log: '' }), told('n4', { log: before }))
  assert.equal(back.refusal, '')
  assert.deepEqual(back.removed, ['n2', 'n4', 'n5', 'n6'])
})

test('whoever has come further is named: by generation first, then by position', () => {
  assert.match(
    plan(told('n1', { position: 101 })).refusal,
    /^n1 has come further \(generation 4, position 101\)/,
  )
  const newer = told('n6', { position: 50, ballot: { round: 5, by: 'n2' } })
  assert.match(plan(told('n1', { position: 101 }), newer).refusal, /^n6 has come further \(generation 5/)
})

test('a region that was recovered elsewhere is not recovered a second time from what was given up there', () => {
  const elsewhere = { log: 'c'.repeat(32), incarnation: 'new', position: 3 }
  for (const name of ['n1', 'n9']) {
    const { refusal, removed } = plan(told(name, elsewhere))
    assert.match(
      refusal,
      new RegExp(`^${name} goes on with another log: the region was recovered there already`),
    )
    assert.ok(removed.includes(name))
  }
})
