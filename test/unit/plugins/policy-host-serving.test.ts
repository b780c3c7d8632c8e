import assert from 'node:assert/strict'
import test from 'node:test'
import { canaryBucket } from '../../../plugins/host/serving-chain.ts'
import { admitAll, policyModule, selectFirst, shedAll } from '../../kit/policies/assemble.ts'
import {
  admitInput,
  makeInput,
  openRegion,
  selectInput,
  testFallbacks,
} from '../../kit/policies/policy-region.ts'

/** Shed with reason = the deciding policy, so that a chain can be seen. */
const shedBecause = (reason: number) =>
  `(i32.store offset=4 (local.get $out) (i32.const ${reason})) ${shedAll}`
/** Traps for a deadline, which the probes of the host do not have in this form. */
const trapsAt = 77
const trapWhen = `(if (f64.eq (f64.load offset=24 (local.get $in)) (f64.const ${trapsAt})) (then unreachable))`
const countersOf = (region: Awaited<ReturnType<typeof openRegion>>, at = 0) => {
  const counters = region.host.status().policies[at]?.counters.admit
  assert.ok(counters)
  return counters
}

test('without a policy the fallbacks decide', async () => {
  const { host } = await openRegion()
  assert.equal(host.decisions.admit(admitInput()).policy, 'fallback')
  assert.equal(host.decisions.select(selectInput()).index, 1)
  assert.deepEqual(host.fallbackCalls(), { select: 1, classify: 0, admit: 1, plan: 0, resolve: 0 })
  await host.close()
})

test('a policy decides the hooks that it exports, the fallbacks the others', async () => {
  const region = await openRegion()
  await region.serve(
    policyModule({ name: 'demo', version: '1.2.3', hooks: { select: selectFirst, admit: shedBecause(7) } }),
  )
  const { decisions } = region.host
  assert.deepEqual(
    { ...decisions.admit(admitInput()) },
    { policy: 'demo@1.2.3', verdict: 'shed', delayMs: 1000, reason: 7 },
  )
  assert.equal(decisions.select(selectInput()).index, 0)
  assert.equal(decisions.classify(makeInput('classify')).policy, 'fallback')
  assert.deepEqual(countersOf(region).reasons, { 7: 1 })
  await region.host.close()
  assert.equal(decisions.admit(admitInput()).policy, 'fallback', 'a closed host still decides')
})

test('the chain is asked in its order until one decides; abstentions and errors are counted and passed on', async () => {
  const region = await openRegion()
  const abstainIfSmall =
    '(if (f64.lt (f64.load offset=72 (local.get $in)) (f64.const 100)) (then (return (i32.const 1))))'
  const failIfLarge =
    '(if (f64.gt (f64.load offset=72 (local.get $in)) (f64.const 1000)) (then (return (i32.const -5))))'
  await region.serve(
    policyModule({ name: 'first', hooks: { admit: `${abstainIfSmall} ${failIfLarge} ${shedBecause(1)}` } }),
  )
  await region.serve(policyModule({ name: 'second', hooks: { admit: `${failIfLarge} ${shedBecause(2)}` } }))
  const reasonAt = (byteLength: number) => region.host.decisions.admit(admitInput({ byteLength })).reason
  assert.deepEqual([500, 5, 5_000].map(reasonAt), [1, 2, 99])
  assert.equal(countersOf(region, 0).errors, 1)
  assert.equal(countersOf(region, 0).abstentions, 2)
  assert.equal(countersOf(region, 1).errors, 1)
  await region.host.close()
})

test('P5: a trap in the middle of a write discards the instance; the next call is right, and the trap is counted', async () => {
  const region = await openRegion()
  // Writes half a decision, and into its own table of answers, and traps; later calls answer from that table.
  const half = `${trapWhen.replace('(then ', '(then (i32.store (i32.const 1024) (i32.const 1)) (i32.store8 (local.get $out) (i32.const 1)) ')}
    (i32.store8 (local.get $out) (i32.load (i32.const 1024))) i32.const 0`
  await region.serve(policyModule({ hooks: { admit: half } }))
  const { decisions } = region.host
  assert.equal(decisions.admit(admitInput()).verdict, 'admit')
  assert.equal(decisions.admit(admitInput({ deadlineMs: trapsAt })).policy, 'fallback')
  const next = decisions.admit(admitInput())
  assert.equal(next.policy, 'test-policy@1.0.0', 'the spare instance takes over in the next call')
  assert.equal(next.verdict, 'admit', 'the memory of the trapped instance is gone')
  assert.equal(countersOf(region).traps, 1)
  assert.equal(countersOf(region).outOfFuel, 0)
  await region.host.close()
})

test('P2: an endless loop in a hook ends within its fuel, and the fallback decides', async () => {
  const region = await openRegion()
  await region.serve(
    policyModule({ hooks: { admit: `${trapWhen.replace('unreachable', '(loop $l br $l)')} ${admitAll}` } }),
  )
  assert.equal(region.host.decisions.admit(admitInput({ deadlineMs: trapsAt })).policy, 'fallback')
  assert.equal(countersOf(region).outOfFuel, 1)
  assert.equal(region.host.decisions.admit(admitInput()).policy, 'test-policy@1.0.0')
  await region.host.close()
})

test('P6: a policy that grows its memory in a call is read and written in the new memory', async () => {
  const region = await openRegion()
  const grow = '(drop (memory.grow (i32.const 1)))'
  const shedLarge = '(i32.store8 (local.get $out) (i32.const 0)) (i32.store (local.get $out) (i32.const 0))'
  await region.serve(
    policyModule({
      hooks: {
        select: `(if (f64.eq (f64.load offset=24 (local.get $in)) (f64.const ${trapsAt})) (then ${grow})) ${shedLarge} i32.const 0`,
      },
    }),
  )
  const { decisions } = region.host
  for (let round = 0; round < 5; round++) {
    const decision = decisions.select(selectInput({ deadlineMs: trapsAt }))
    assert.equal(decision.policy, 'test-policy@1.0.0')
    assert.equal(decision.index, 0)
  }
  await region.host.close()
})

test('P7: an output out of range or not a number is not used, and the version is taken back', async () => {
  const faults: Readonly<Record<string, string>> = {
    'a verdict that is none': '(i32.store8 (local.get $out) (i32.const 9)) i32.const 0',
    'nothing written': 'i32.const 0',
    NaN: `(f64.store offset=8 (local.get $out) (f64.const nan)) ${admitAll}`,
    infinity: `(f64.store offset=8 (local.get $out) (f64.const inf)) ${admitAll}`,
    'a delay below 0': `(f64.store offset=8 (local.get $out) (f64.const -1)) ${admitAll}`,
    'a status that is none': 'i32.const 2',
  }
  for (const [name, body] of Object.entries(faults)) {
    const region = await openRegion()
    const at = `(if (f64.eq (f64.load offset=24 (local.get $in)) (f64.const ${trapsAt})) (then (return ${`(block (result i32) ${body})`})))`
    await region.serve(policyModule({ hooks: { admit: `${at} ${shedAll}` } }))
    assert.equal(region.host.decisions.admit(admitInput()).verdict, 'shed', name)
    assert.equal(region.host.decisions.admit(admitInput({ deadlineMs: trapsAt })).policy, 'fallback', name)
    assert.equal(
      region.host.decisions.admit(admitInput()).policy,
      'fallback',
      `${name}: it is not asked again`,
    )
    await region.host.idle()
    assert.equal(region.host.status().quarantine.length, 1, name)
    await region.host.close()
  }
})

test('P3: a million calls on one instance, memory flat', async () => {
  const region = await openRegion()
  await region.serve(policyModule({ hooks: { admit: admitAll } }))
  const { decisions } = region.host
  const input = admitInput()
  const call = (times: number) => {
    for (let index = 0; index < times; index++) decisions.admit(input)
  }
  call(100_000)
  globalThis.gc?.()
  const before = process.memoryUsage()
  call(1_000_000)
  globalThis.gc?.()
  const after = process.memoryUsage()
  assert.equal(countersOf(region).decisions, 1_100_000)
  assert.equal(countersOf(region).traps, 0)
  const grownMiB =
    (after.heapUsed +
      after.external +
      after.arrayBuffers -
      before.heapUsed -
      before.external -
      before.arrayBuffers) /
    2 ** 20
  assert.ok(grownMiB < 8, `${grownMiB.toFixed(1)} MiB more`)
  await region.host.close()
})

test("an input that has more items than the structs hold is the fallback's to decide", async () => {
  const region = await openRegion()
  await region.serve(policyModule({ hooks: { select: selectFirst } }))
  const candidates = Array.from({ length: 65 }, () => selectInput().candidates[0]).flatMap((one) => one ?? [])
  assert.equal(region.host.decisions.select({ ...selectInput(), candidates }).policy, 'fallback')
  await region.host.close()
})

test('P11: the share of a canary is the same hash for hash, grows by adding, and is as large as it says', () => {
  const hashes = Array.from({ length: 20_000 }, (_, index) => BigInt(index) * 0x9e3779b97f4a7c15n)
  const small = hashes.filter((hash) => canaryBucket(hash) < 5)
  const large = new Set(hashes.filter((hash) => canaryBucket(hash) < 20))
  assert.ok(Math.abs(small.length / hashes.length - 0.05) < 0.01, `${small.length}`)
  assert.ok(Math.abs(large.size / hashes.length - 0.2) < 0.02, `${large.size}`)
  assert.ok(small.every((hash) => large.has(hash)))
  const neighbours = Array.from({ length: 1_000 }, (_, index) => canaryBucket(BigInt(index)))
  assert.ok(new Set(neighbours).size > 90, 'hashes that follow each other fall on many sides')
})

test('the fallbacks keep their `this`', async () => {
  const fallbacks = {
    ...testFallbacks,
    answer: 41,
    admit() {
      return { policy: 'fallback', reason: this.answer, verdict: 'admit' as const, delayMs: 0 }
    },
  }
  const { host } = await openRegion({ fallbacks })
  assert.equal(host.decisions.admit(admitInput()).reason, 41)
  await host.close()
})
