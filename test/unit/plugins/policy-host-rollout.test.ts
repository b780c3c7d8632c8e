import assert from 'node:assert/strict'
import test from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { StorageError } from '../../../core/contract/errors.ts'
import { MemoryPolicyStore } from '../../../plugins/host/memory-policy-store.ts'
import { canaryBucket } from '../../../plugins/host/serving-chain.ts'
import { admitAll, policyModule, shedAll } from '../../kit/policies/assemble.ts'
import { admitInput, openRegion, type PolicyRegion } from '../../kit/policies/policy-region.ts'

const hashes = Array.from({ length: 1_000 }, (_, index) => BigInt(index) * 0x9e3779b97f4a7c15n)
const inputs = hashes.map((requestHash) => ({ ...admitInput(), requestHash }))
/** Deadlines that a test sends and the probes of the host do not. */
const badDeadline = 77
const whenBad = (then: string) =>
  `(if (f64.eq (f64.load offset=24 (local.get $in)) (f64.const ${badDeadline})) (then ${then}))`
const bad = admitInput({ deadlineMs: badDeadline })
const name = 'test-policy'
const version = (version: string, body: string) => policyModule({ version, hooks: { admit: body } })
const serving = (region: PolicyRegion) =>
  region.host.status().policies.map(({ version, stage, percent }) => `${version} ${stage} ${percent}`)
const push = async (region: PolicyRegion, wasm: Uint8Array) => (await region.host.push({ wasm })).digest
const askAll = (region: PolicyRegion) => inputs.map((input) => region.host.decisions.admit(input).policy)
const gradual = { shadowCalls: 2_000, canaryPercent: 10, canaryCalls: 300, stepTimeoutMs: 60_000 }

/** Sends requests until the rollout is over, and lets timers run in between. */
async function loadUntil(region: PolicyRegion, isOver: () => boolean): Promise<void> {
  for (let round = 0; !isOver(); round++) {
    assert.ok(round < 2_000, `the rollout never ended: ${serving(region).join(', ')}`)
    askAll(region)
    region.clock.move(60)
    await turn()
  }
}

test('P11: shadow, canary, all: a new version goes through them by itself, and the split is by request hash', async () => {
  const region = await openRegion()
  await region.serve(version('1.0.0', admitAll))
  const digest = await push(region, version('2.0.0', shedAll))
  await region.host.activate({ name, digest, gradual })
  assert.deepEqual(serving(region), ['1.0.0 active 100', '2.0.0 shadow 0'])
  assert.ok(
    askAll(region).every((policy) => policy === `${name}@1.0.0`),
    'a shadow decides nothing',
  )
  const shadow = region.host.status().policies[1]?.counters.admit
  assert.equal(shadow?.compared, 1_000)
  assert.equal(shadow?.differed, 1_000)

  await loadUntil(region, () => serving(region).includes('2.0.0 canary 10'))
  const first = askAll(region)
  assert.deepEqual(askAll(region), first, 'the same requests go to the same version')
  hashes.forEach((hash, at) => {
    assert.equal(first[at], canaryBucket(hash) < 10 ? `${name}@2.0.0` : `${name}@1.0.0`)
  })

  await loadUntil(region, () => serving(region).includes('2.0.0 active 100'))
  assert.ok(askAll(region).every((policy) => policy === `${name}@2.0.0`))
  assert.deepEqual(serving(region), ['2.0.0 active 100', '1.0.0 draining 0'])
  await region.host.close()
})

test('P11: an automatic rollback under load: every call is decided, and never by nobody', async () => {
  const region = await openRegion()
  const stable = await region.serve(version('1.0.0', admitAll))
  const digest = await push(region, version('2.0.0', `${whenBad('unreachable')} ${shedAll}`))
  await region.host.activate({ name, digest })
  assert.ok(askAll(region).every((policy) => policy === `${name}@2.0.0`))
  // 1 trap in 1000 is what may happen; 2 are too many.
  assert.equal(region.host.decisions.admit(bad).policy, 'fallback')
  await turn()
  assert.ok(askAll(region).every((policy) => policy === `${name}@2.0.0`))
  assert.equal(region.host.decisions.admit(bad).policy, 'fallback')
  await turn()
  const third = region.host.decisions.admit(bad)
  assert.equal(
    third.policy,
    `${name}@1.0.0`,
    'the version before takes over in the very call that took the new one down',
  )
  assert.ok(askAll(region).every((policy) => policy === `${name}@1.0.0`))
  await region.host.idle()
  assert.deepEqual(
    region.store.deployment().policies[0]?.versions.map(({ digest }) => digest),
    [stable],
  )
  assert.ok(askAll(region).every((policy) => policy === `${name}@1.0.0`))
  assert.match(region.host.status().quarantine[0]?.reason ?? '', /3 of 2\d+ calls trapped, more than 0.1 %/)
  await region.host.close()
})

test('an invalid output of a canary takes it back at once', async () => {
  const region = await openRegion()
  await region.serve(version('1.0.0', admitAll))
  const wrong = '(i32.store8 (local.get $out) (i32.const 7)) (return (i32.const 0))'
  const digest = await push(region, version('2.0.0', `${whenBad(wrong)} ${shedAll}`))
  await region.host.activate({ name, digest, gradual: { ...gradual, shadowCalls: 0, canaryPercent: 99 } })
  assert.deepEqual(serving(region), ['1.0.0 active 1', '2.0.0 canary 99'])
  const inCanary = hashes.find((hash) => canaryBucket(hash) < 99) ?? 0n
  assert.equal(region.host.decisions.admit({ ...bad, requestHash: inCanary }).policy, `${name}@1.0.0`)
  await region.host.idle()
  assert.deepEqual(serving(region), ['1.0.0 active 100'])
  await region.host.close()
})

test('P12: a storm of traps ends in quarantine, which stops restart loops: refused while it lasts, tried again when it ends, twice as long each time', async () => {
  const region = await openRegion()
  const digest = await push(region, version('1.0.0', `${whenBad('unreachable')} ${shedAll}`))
  await region.host.activate({ name, digest })
  const crash = async () => {
    // Without a spare instance at hand the fallback decides; five traps in a row are enough.
    for (let call = 0; call < 5; call++) {
      assert.equal(region.host.decisions.admit(bad).policy, 'fallback')
      await turn()
    }
    await region.host.idle()
  }
  const minutesLeft = () => {
    const [entry] = region.host.status().quarantine
    return entry === undefined ? 0 : Math.round((entry.untilMs - region.clock.now()) / 60_000)
  }
  await crash()
  assert.equal(minutesLeft(), 1)
  assert.equal(
    region.host.decisions.admit(admitInput()).policy,
    'fallback',
    'an ordinary call does not wake it',
  )
  await assert.rejects(region.host.activate({ name, digest }), (reason) => {
    assert.ok(reason instanceof StorageError)
    assert.equal(reason.code, 'POLICY_QUARANTINED')
    assert.match(reason.reason, /5 times in a row/)
    return true
  })
  assert.equal(region.host.status().policies[0]?.failure?.stage, 'fetched')
  for (const minutes of [2, 4, 8]) {
    region.clock.move(24 * 60_000)
    await turn()
    await region.host.settled()
    assert.equal(
      region.host.decisions.admit(admitInput()).policy,
      `${name}@1.0.0`,
      'its time is over: it serves again',
    )
    await crash()
    assert.equal(minutesLeft(), minutes)
  }
  await region.host.close()
})

test('missed latency targets take a young version back, and leave an old one alone', async () => {
  let missed: string | undefined
  const region = await openRegion({ sloGuard: () => missed })
  await region.serve(version('1.0.0', admitAll))
  const digest = await push(region, version('2.0.0', shedAll))
  await region.host.activate({ name, digest })
  missed = 'interactive: p99 40 ms, target 10 ms'
  askAll(region)
  await region.host.idle()
  assert.deepEqual(serving(region), ['1.0.0 active 100'])
  assert.match(region.host.status().quarantine[0]?.reason ?? '', /p99 40 ms/)
  region.clock.move(120_000)
  askAll(region)
  await region.host.idle()
  assert.deepEqual(serving(region), ['1.0.0 active 100'], 'an old version is not to blame')
  await region.host.close()
})

/** Every look at the clock costs 5 ms from now on: so much a sampled call is slower than one that a busy machine interrupts. */
function slowDown({ clock }: PolicyRegion): void {
  const monotonic = clock.monotonic.bind(clock)
  let looks = 0
  clock.monotonic = () => monotonic() + 5 * looks++
}

test('a version that takes more than twice the time of the one before is taken back', async () => {
  const region = await openRegion()
  await region.serve(version('1.0.0', admitAll))
  for (let round = 0; round < 40; round++) askAll(region)
  const busy = `(local $n i32) (local.set $n (i32.const 500)) (loop $l (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))`
  const digest = await push(region, version('2.0.0', `${busy} ${shedAll}`))
  await region.host.activate({ name, digest })
  slowDown(region)
  for (let round = 0; round < 60 && serving(region).includes('2.0.0 active 100'); round++) {
    askAll(region)
    await region.host.idle()
  }
  assert.deepEqual(serving(region), ['1.0.0 active 100'])
  assert.match(region.host.status().quarantine[0]?.reason ?? '', /more than twice/)
  await region.host.close()
})

test('a machine that becomes slow is not the fault of a version that burns no more than the one before', async () => {
  const region = await openRegion()
  await region.serve(version('1.0.0', admitAll))
  for (let round = 0; round < 40; round++) askAll(region)
  await region.serve(version('2.0.0', admitAll))
  slowDown(region)
  for (let round = 0; round < 60; round++) askAll(region)
  await region.host.idle()
  assert.equal(serving(region)[0], '2.0.0 active 100')
  assert.ok((region.host.status().policies[0]?.counters.admit?.p99Ns ?? 0) > 100_000, 'it was slow indeed')
  await region.host.close()
})

test('two nodes of a region serve the same after every change, and one rollback is for both', async () => {
  const store = new MemoryPolicyStore()
  const one = await openRegion({ store })
  const other = await openRegion({ store })
  await one.serve(version('1.0.0', admitAll))
  const digest = await push(one, version('2.0.0', `${whenBad('unreachable')} ${shedAll}`))
  await one.host.activate({ name, digest })
  await other.host.settled()
  assert.deepEqual(serving(one), serving(other))
  assert.equal(other.host.decisions.admit(admitInput()).policy, `${name}@2.0.0`)
  for (let call = 0; call < 5; call++) {
    one.host.decisions.admit(bad)
    await turn()
  }
  await one.host.idle()
  await other.host.settled()
  assert.equal(store.deployment().epoch, 3)
  assert.equal(one.host.decisions.admit(admitInput()).policy, `${name}@1.0.0`)
  assert.equal(other.host.decisions.admit(admitInput()).policy, `${name}@1.0.0`)
  await one.host.close()
  await other.host.close()
})

test('two nodes that change the deployment at once both get what they asked for', async () => {
  const store = new MemoryPolicyStore()
  const regions = await Promise.all([openRegion({ store }), openRegion({ store })])
  await Promise.all(
    regions.map((region, at) =>
      region.serve(policyModule({ name: `policy-${at}`, hooks: { admit: 'i32.const 1' } })),
    ),
  )
  assert.deepEqual(
    store
      .deployment()
      .policies.map((policy) => policy.name)
      .toSorted(),
    ['policy-0', 'policy-1'],
  )
  assert.equal(store.deployment().epoch, 2)
  for (const region of regions) await region.host.close()
})

test('a rollout that is not asked often enough is given up, and what served goes on', async () => {
  const region = await openRegion()
  await region.serve(version('1.0.0', admitAll))
  const digest = await push(region, version('2.0.0', shedAll))
  await region.host.activate({ name, digest, gradual: { ...gradual, stepTimeoutMs: 10_000 } })
  for (let round = 0; round < 400 && serving(region).length > 1; round++) {
    region.clock.move(60)
    await turn()
  }
  assert.deepEqual(serving(region), ['1.0.0 active 100'])
  await region.host.close()
})

test('rollback goes to the version before, to any of the last ten, and says so when there is none', async () => {
  const region = await openRegion()
  const digests: string[] = []
  for (let at = 0; at < 13; at++) digests.push(await region.serve(version(`1.${at}.0`, admitAll)))
  assert.equal(region.store.deployment().policies[0]?.history.length, 10)
  await region.host.rollback(name)
  assert.deepEqual(serving(region)[0], '1.11.0 active 100')
  await region.host.rollback(name, digests[5])
  assert.deepEqual(serving(region)[0], '1.5.0 active 100')
  await assert.rejects(region.host.rollback(name, digests[0]), /is not among the last versions/)
  await assert.rejects(region.host.rollback('nobody'), /no version of a policy called nobody/)
  await region.host.deactivate(name)
  assert.equal(region.host.decisions.admit(admitInput()).policy, 'fallback')
  assert.deepEqual(serving(region), [])
  await region.host.close()
})

test('a hundred versions in a row under a stream of requests: no call fails, none is decided by nobody', async () => {
  const region = await openRegion()
  await region.serve(version('0.0.0', admitAll))
  let calls = 0
  let isOver = false
  const stream = (async () => {
    while (!isOver) {
      for (let call = 0; call < 50; call++) {
        const { policy } = region.host.decisions.admit(inputs[calls++ % inputs.length] ?? bad)
        assert.match(policy, /^test-policy@/)
      }
      await turn()
    }
  })()
  for (let at = 1; at <= 100; at++)
    await region.serve(version(`0.0.${at}`, at % 2 === 0 ? admitAll : shedAll))
  isOver = true
  await stream
  assert.equal(region.host.decisions.admit(bad).policy, `${name}@0.0.100`)
  assert.ok(calls >= 5_000, `${calls} calls`)
  await region.host.close()
})

test('a closed host leaves no rollout behind', async () => {
  const region = await openRegion()
  await region.serve(version('1.0.0', admitAll))
  const digest = await push(region, version('2.0.0', shedAll))
  await region.host.activate({ name, digest, gradual })
  await region.host.close()
  assert.equal(region.host.decisions.admit(bad).policy, 'fallback')
  assert.deepEqual(
    region.log.filter(({ level }) => level === 'error'),
    [],
  )
})
