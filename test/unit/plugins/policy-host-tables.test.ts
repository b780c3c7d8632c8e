import assert from 'node:assert/strict'
import test from 'node:test'
import type { PolicyTables } from '../../../plugins/abi/json-values.ts'
import { occupants } from '../../../plugins/host/guest-door.ts'
import { MemoryPolicyStore } from '../../../plugins/host/memory-policy-store.ts'
import { policyModule, shedAll } from '../../kit/policies/assemble.ts'
import { admitInput, openRegion, type PolicyRegion } from '../../kit/policies/policy-region.ts'

const tenants = (...names: string[]): PolicyTables => ({
  classes: ['one'],
  tenants: ['', ...names],
  buckets: [''],
})

/** Sheds the tenant with index 1, and refuses more than 120 bytes of settings and names. */
const shedsTheFirst = {
  init: '(if (i32.gt_u (local.get $length) (i32.const 120)) (then (return (i32.const -3)))) i32.const 0',
  hooks: {
    admit: `(if (i32.eq (i32.load offset=40 (local.get $in)) (i32.const 1)) (then (i32.store8 (local.get $out) (i32.const 2))))
      (if (i32.ne (i32.load offset=40 (local.get $in)) (i32.const 1)) (then (i32.store8 (local.get $out) (i32.const 0))))
      i32.const 0`,
  },
}
const tooMany = tenants('zed', 'alice', 'x'.repeat(120))

/** The record says that `digest` serves; whether it loads is left to the node. */
async function deploy(region: PolicyRegion, digest: string, before: string): Promise<void> {
  const versionOf = (of: string) => ({ digest: of, percent: 100, config: '{}', sinceMs: 0 })
  await region.store.deploy({
    epoch: region.store.deployment().epoch + 1,
    policies: [{ name: 'test-policy', versions: [versionOf(digest)], history: [versionOf(before)] }],
  })
  await region.host.settled()
}

const missing = 'f'.repeat(64)

test('a policy that refuses the new names does not decide about them with the old ones', async () => {
  const region = await openRegion({ tables: tenants('alice') })
  await region.serve(policyModule(shedsTheFirst))
  const ask = () => region.host.decisions.admit(admitInput({ tenant: 1 }))
  assert.equal(ask().verdict, 'shed')

  await region.host.setTables(tooMany)
  assert.equal(ask().policy, 'fallback', 'tenant 1 is zed now, of whom it knows nothing')
  const [status] = region.host.status().policies
  assert.equal(status?.name, 'test-policy')
  assert.equal(status?.failure?.stage, 'initialised')
  assert.match(status?.failure?.reason ?? '', /refused the configuration.*the built-in rules decide/)
  const told = region.log.filter(({ level }) => level === 'error')
  assert.equal(told.length, 1)
  assert.match(told[0]?.message ?? '', /a policy could not be loaded: the built-in rules decide/)

  await region.host.setTables(tenants('zed', 'alice'))
  assert.equal(ask().policy, 'test-policy@1.0.0')
  assert.equal(region.host.status().policies[0]?.failure, undefined)
  await region.host.close()
})

test('the version before does not stand in with names from before either', async () => {
  const region = await openRegion({ tables: tenants('alice') })
  await region.serve(policyModule({ ...shedsTheFirst, version: '1.0.0' }))
  await region.serve(policyModule({ ...shedsTheFirst, version: '1.0.1' }))
  await region.host.setTables(tooMany)
  assert.equal(region.host.decisions.admit(admitInput({ tenant: 1 })).policy, 'fallback')
  await region.host.close()
})

test('a new version that does not load leaves the old one serving, which has the names of now', async () => {
  const region = await openRegion({ tables: tenants('alice') })
  const digest = await region.serve(policyModule(shedsTheFirst))
  await region.host.setTables(tenants('bob', 'alice'))
  await deploy(region, missing, digest)
  assert.equal(region.host.decisions.admit(admitInput({ tenant: 1 })).policy, 'test-policy@1.0.0')
  assert.doesNotMatch(region.host.status().policies[0]?.failure?.reason ?? '', /built-in rules/)
  await region.host.close()
})

test('the version that stands in learns the new names, as long as what is deployed does not load', async () => {
  const adopted: PolicyTables[] = []
  const region = await openRegion({
    tables: tenants('alice'),
    adoptTables: (tables) => void adopted.push(tables),
  })
  await deploy(region, missing, await region.serve(policyModule(shedsTheFirst)))
  const ask = (tenant: number) => region.host.decisions.admit(admitInput({ tenant }))
  assert.equal(ask(1).policy, 'test-policy@1.0.0')
  for (const next of [tenants('bob', 'alice'), tenants('carol', 'bob', 'alice')]) {
    await region.host.setTables(next)
    assert.equal(adopted.at(-1), next)
    assert.deepEqual([ask(1).policy, ask(1).verdict], ['test-policy@1.0.0', 'shed'])
    assert.equal(ask(2).verdict, 'admit')
  }
  const [status] = region.host.status().policies
  assert.equal(status?.failure?.stage, 'fetched')
  assert.doesNotMatch(status?.failure?.reason ?? '', /built-in rules/)
  assert.deepEqual(
    region.log.filter(({ level }) => level === 'error'),
    [],
  )

  // With names that it refuses it serves no more, and that is told.
  await region.host.setTables(tooMany)
  assert.equal(ask(1).policy, 'fallback')
  assert.match(region.host.status().policies[0]?.failure?.reason ?? '', /built-in rules decide/)
  assert.equal(region.log.filter(({ level }) => level === 'error').length, 1)
  assert.match(
    region.host.status().policies[0]?.failure?.reason ?? '',
    /stand in: .*refused the configuration/,
  )

  await region.host.setTables(tenants('dave'))
  assert.equal(ask(1).policy, 'test-policy@1.0.0')
  assert.doesNotMatch(region.host.status().policies[0]?.failure?.reason ?? '', /built-in rules/)
  await region.host.deactivate('test-policy')
  assert.equal(ask(1).policy, 'fallback')
  await region.host.close()
})

test('the version before stands in when only the newer one refuses the new names', async () => {
  const region = await openRegion({ tables: tenants('alice') })
  const frugal = { ...shedsTheFirst, init: 'i32.const 0' }
  await region.serve(policyModule({ ...frugal, version: '1.0.0' }))
  await region.serve(policyModule({ ...shedsTheFirst, version: '1.0.1' }))
  await region.host.setTables(tooMany)
  const decision = region.host.decisions.admit(admitInput({ tenant: 1 }))
  assert.deepEqual([decision.policy, decision.verdict], ['test-policy@1.0.0', 'shed'])
  await region.host.setTables(tenants('bob'))
  assert.equal(region.host.decisions.admit(admitInput({ tenant: 1 })).policy, 'test-policy@1.0.1')
  await region.host.close()
})

test('what failed while it stood in does not come back with new names', async () => {
  const region = await openRegion({ tables: tenants('alice') })
  const wasm = policyModule({
    hooks: {
      admit: `(if (f64.eq (f64.load offset=24 (local.get $in)) (f64.const 77)) (then unreachable))
        (i32.store8 (local.get $out) (i32.const 0)) i32.const 0`,
    },
  })
  await deploy(region, missing, await region.serve(wasm))
  for (let call = 0; call < 5; call++) {
    region.host.decisions.admit(admitInput({ deadlineMs: 77 }))
    await new Promise<void>((resolve) => setImmediate(resolve))
  }
  await region.host.idle()
  assert.equal(region.host.status().quarantine.length, 1)
  for (const name of ['bob', 'carol']) {
    await region.host.setTables(tenants(name))
    assert.equal(region.host.status().policies.length, 1, 'only what is deployed is left')
    assert.match(region.host.status().policies[0]?.failure?.reason ?? '', /built-in rules decide/)
    region.clock.move(61_000)
    assert.equal(region.host.status().quarantine.length, 0)
  }
  await region.host.close()
})

test('new names are adopted with the versions that know them, not before and not after', async () => {
  /** Sheds as soon as a name ends in `:1`. */
  const wasm = policyModule({
    fields: '(global $shed (mut i32) (i32.const 0))',
    init: `(local $at i32)
      (loop $next
        (if (i32.eq (i32.load16_u (i32.add (local.get $config) (local.get $at))) (i32.const 0x313a))
          (then (global.set $shed (i32.const 2))))
        (local.set $at (i32.add (local.get $at) (i32.const 1)))
        (br_if $next (i32.lt_u (local.get $at) (i32.sub (local.get $length) (i32.const 1)))))
      i32.const 0`,
    hooks: { admit: '(i32.store8 (local.get $out) (global.get $shed)) i32.const 0' },
  })
  const adopted: PolicyTables[] = []
  const atAdoption: string[] = []
  const verdict = () => region.host.decisions.admit(admitInput()).verdict
  const region = await openRegion({
    tables: tenants('a'),
    adoptTables: (tables) => {
      adopted.push(tables)
      atAdoption.push(verdict())
    },
  })
  await region.serve(wasm)
  const next = tenants('a:1')
  let isOver = false
  const applied = region.host.setTables(next).then(() => {
    isOver = true
  })
  let asked = 0
  while (!isOver) {
    assert.equal(verdict(), adopted.length === 0 ? 'admit' : 'shed')
    asked++
    await new Promise<void>((resolve) => setImmediate(resolve))
  }
  await applied
  assert.ok(asked > 1, 'it was asked while the names were new')
  assert.deepEqual(adopted, [next])
  assert.deepEqual(atAdoption, ['shed'])
  await region.host.close()
})

test('names that come while others are being applied are applied to all policies alike', async () => {
  const adopted: PolicyTables[] = []
  const region = await openRegion({
    tables: tenants('alice'),
    adoptTables: (tables) => void adopted.push(tables),
  })
  await region.serve(policyModule({ ...shedsTheFirst, name: 'one' }))
  await region.serve(policyModule({ ...shedsTheFirst, name: 'two' }))
  const [first, second] = [tenants('bob'), tooMany]
  const applied = region.host.setTables(first)
  // The first policy is being loaded with the first names, the second one is not yet.
  await new Promise<void>((resolve) => setImmediate(resolve))
  await Promise.all([applied, region.host.setTables(second)])
  assert.deepEqual(adopted, [first, second])
  assert.equal(region.host.decisions.admit(admitInput({ tenant: 1 })).policy, 'fallback')
  await region.host.close()
})

test('what could not be loaded with new names is tried again by itself', async () => {
  class Store extends MemoryPolicyStore {
    isAway = false
    override async getPackage(digest: string) {
      return this.isAway ? undefined : super.getPackage(digest)
    }
  }
  const store = new Store()
  const region = await openRegion({ tables: tenants('alice'), store })
  await region.serve(policyModule(shedsTheFirst))
  store.isAway = true
  await region.host.setTables(tenants('bob'))
  const decidedBy = () => region.host.decisions.admit(admitInput({ tenant: 1 })).policy
  const after = async (ms: number) => {
    region.clock.move(ms)
    await new Promise<void>((resolve) => setImmediate(resolve))
    await region.host.settled()
    return decidedBy()
  }
  assert.equal(decidedBy(), 'fallback')
  assert.equal(await after(61_000), 'fallback')
  store.isAway = false
  assert.equal(await after(30_000), 'fallback', 'each time it waits twice as long')
  assert.equal(await after(91_000), 'test-policy@1.0.0')
  await region.host.close()
})

test('instances with names from before do not stay', async () => {
  const region = await openRegion({ tables: tenants('alice') })
  const standing = () => occupants().length
  const before = standing()
  await region.serve(policyModule({ hooks: { admit: shedAll } }))
  for (let round = 0; round < 10; round++) {
    await region.host.setTables(tenants(`tenant-${round}`))
    region.host.decisions.admit(admitInput())
  }
  assert.ok(standing() - before <= 1, `${standing() - before} stand`)
  await region.host.close()
})
