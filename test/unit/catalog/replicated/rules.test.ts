import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import { Confirmations } from '../../../../core/catalog/replicated/confirmations.ts'
import {
  type Founding,
  provenPosition,
  type VoterSet,
} from '../../../../core/catalog/replicated/generation.ts'
import { type BranchReport, decideBase } from '../../../../core/catalog/replicated/vote.ts'

/** Chains of a branch that is told as one letter per entry: equal beginnings have equal chains. */
const chainOf = (branch: string, position: number): Uint8Array =>
  new Uint8Array(createHash('sha256').update(branch.slice(0, position)).digest())

const set = (position: number, ...voters: string[]): VoterSet => ({
  position,
  voters: voters.map((name) => `${name} 1`),
})
const three = [set(0, 'a', 'b', 'c')]

function founding(round: number, branch: string): Founding {
  return {
    log: 'l',
    ballot: { round, by: 'a' },
    position: branch.length,
    chain: chainOf(branch, branch.length),
    stream: 's',
    voterSets: three,
  }
}

function report(
  name: string,
  generation: Founding | undefined,
  branch: string,
  floor = 0,
  voterSets: readonly VoterSet[] = three,
): BranchReport {
  const chains = Array.from({ length: branch.length - floor + 1 }, (_, index) =>
    chainOf(branch, floor + index),
  )
  return { voter: `${name} 1`, founding: generation, position: branch.length, chains, floor, voterSets }
}

const first = founding(1, '')
const baseOf = (...reports: BranchReport[]): string => {
  const vote = decideBase(reports)
  return vote.kind === 'base' ? `${vote.from.slice(0, 1)}${vote.position}` : 'undecided'
}

test('B1: an entry that one of two reports holds is kept: the voter not heard may have acknowledged it', () => {
  assert.equal(baseOf(report('a', first, 'xy'), report('b', first, 'x')), 'a2')
})

test('B3: a vote needs a majority, whatever one node holds', () => {
  assert.equal(baseOf(report('a', first, 'xyz')), 'undecided')
})

test('B2: what was accepted in the newest generation heard of counts, and not the longest branch', () => {
  const second = founding(2, 'x')
  assert.equal(baseOf(report('a', first, 'xyzzz'), report('b', second, 'xq')), 'b2')
})

test('two branches that may both have been acknowledged are decided by nobody but the third voter', () => {
  const [left, right] = [report('a', first, 'xy'), report('b', first, 'xz')]
  assert.equal(baseOf(left, right), 'undecided')
  assert.equal(baseOf(left, right, report('c', first, 'xz')), 'b2')
  assert.equal(baseOf(left, right, report('c', first, 'x')), 'a2')
})

test('of a branch that cannot have been acknowledged nothing stands in the way of the other', () => {
  // c is known to hold neither y nor z, so the one voter with each of them is alone.
  const reports = [report('a', first, 'xy'), report('b', first, 'xzz'), report('c', first, 'x')]
  assert.equal(baseOf(...reports), 'b3')
})

test('what is known to be confirmed rules out every other branch', () => {
  assert.equal(baseOf(report('a', first, 'xyz', 2), report('b', first, 'xqqqq')), 'a3')
})

test('which report is heard first makes no difference to what is known to be confirmed', () => {
  const five = [set(0, 'a', 'b', 'c', 'd', 'e')]
  const generation = { ...first, voterSets: five }
  const [a, b, c] = [
    report('a', generation, 'xyz', 3, five),
    report('b', generation, 'xy', 2, five),
    // The stream gave it other entries.
    report('c', generation, 'xqqqq', 1, five),
  ]
  const orders = [
    [a, b, c],
    [a, c, b],
    [b, a, c],
    [b, c, a],
    [c, a, b],
    [c, b, a],
  ] as const
  assert.deepEqual(
    orders.map((reports) => baseOf(...reports)),
    orders.map(() => 'a3'),
  )
})

test('B4: a change of voters that may have been confirmed asks for a majority of the new voters as well', () => {
  const sets = [set(0, 'a', 'b', 'c'), set(2, 'a', 'b', 'c', 'd', 'e')]
  const changed = report('a', first, 'xv', 0, sets)
  assert.equal(baseOf(changed, report('b', first, 'x')), 'undecided')
  // Three of five, and two of three.
  assert.equal(baseOf(changed, report('b', first, 'x'), report('d', first, 'x')), 'a2')
})

test('B11: a voter that lost its disk does not answer for the one that it was', () => {
  const wiped: BranchReport = { ...report('b', undefined, ''), voter: 'b 2' }
  assert.equal(baseOf(report('a', first, 'x'), wiped), 'undecided')
})

test('a change of voters is confirmed by a majority of those before and of those after it', () => {
  const reach = (held: Record<string, number>) => (voter: string) => held[voter.slice(0, 1)] ?? -1
  const sets = [set(0, 'a', 'b', 'c'), { position: 5, voters: ['a 1', 'b 1', 'd 1'] }]
  assert.equal(provenPosition(sets, 9, reach({ a: 9, b: 9 })), 9)
  // a and c had confirmed 4 before; a and d alone must not confirm 5 on another branch.
  assert.equal(provenPosition(sets, 9, reach({ a: 9, d: 9 })), -1)
  assert.equal(provenPosition(sets, 9, reach({ a: 9, c: 9 })), 4)
  assert.equal(provenPosition(sets, 9, reach({ a: 9, c: 7, d: 6 })), 6)
})

test('B12: a claim with another chain counts for nothing and is told; one from further on waits', () => {
  const table = new Confirmations((position) => (position > 3 ? undefined : chainOf('xyz', position)))
  const claim = (branch: string) => ({
    position: branch.length,
    chain: chainOf(branch, branch.length),
    confirmed: 0,
  })
  assert.equal(table.note('b 1', claim('xq'), 3), false)
  assert.equal(table.position(three, 3, 'a 1'), -1)
  assert.equal(table.note('b 1', claim('xy'), 3), true)
  assert.equal(table.position(three, 3, 'a 1'), 2)
  assert.equal(table.note('c 1', claim('xyzq'), 3), true)
  assert.deepEqual(table.advance(3), [])
  assert.equal(table.position(three, 3, 'a 1'), 2)
})

test('what another node knows to be confirmed counts as far as it held the same when it said so', () => {
  const table = new Confirmations((position) => (position > 4 ? undefined : chainOf('wxyz', position)))
  // It held the first two entries of this branch, and knew nothing of them to be confirmed.
  table.note('b 1', { position: 2, chain: chainOf('wx', 2), confirmed: 1 }, 4)
  assert.equal(table.told, 1)
  // Now it holds another branch, on which more is confirmed: that says nothing about this one.
  assert.equal(table.note('b 1', { position: 4, chain: chainOf('wxqq', 4), confirmed: 4 }, 4), false)
  assert.equal(table.told, 1)
})

test('what a voter holds that has promised another generation counts for nothing, what it knows to be confirmed does', () => {
  const branch = 'xyz'
  const confirmations = new Confirmations((position) => chainOf(branch, position))
  confirmations.hear({ position: 3, chain: chainOf(branch, 3), confirmed: 2 })
  assert.deepEqual([confirmations.reach('b 1'), confirmations.position(three, 3, 'a 1')], [-1, -1])
  assert.equal(confirmations.told, 2)
  assert.equal(confirmations.hear({ position: 3, chain: chainOf('xyq', 3), confirmed: 3 }), false)
  assert.equal(confirmations.told, 2)
})
