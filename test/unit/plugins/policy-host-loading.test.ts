import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import test from 'node:test'
import { Worker } from 'node:worker_threads'
import { StorageError } from '../../../core/contract/errors.ts'
import type { PolicyStage } from '../../../core/contract/policy-deployment.ts'
import { withCustomSections } from '../../../plugins/abi/module-file.ts'
import { examineModule } from '../../../plugins/host/examine-module.ts'
import { writeSelectInput } from '../../../plugins/host/generated/policy-structs.ts'
import { createGuest, gatesOf } from '../../../plugins/host/guest-instance.ts'
import { digestOf, policyKeyPair, signPolicy } from '../../../plugins/host/trust.ts'
import { meterModule } from '../../../plugins/host/wasm/meter-module.ts'
import { admitAll, policyModule, shedAll } from '../../kit/policies/assemble.ts'
import { admitInput, makeInput, openRegion, selectInput } from '../../kit/policies/policy-region.ts'

const kit = new URL('../../kit/policies/policy-region.js', import.meta.url).href

async function refused(run: Promise<unknown>, stage: PolicyStage, message: RegExp): Promise<void> {
  await assert.rejects(run, (reason) => {
    assert.ok(reason instanceof StorageError, String(reason))
    assert.equal(reason.code, 'POLICY_REFUSED')
    assert.equal(reason.details['Stage'], stage, reason.reason)
    assert.match(reason.reason, message)
    return true
  })
}

const refuseConfiguration = `
  (i32.const 1)
  (if (i32.gt_u (local.get $length) (i32.const 120)) (then (return (i32.const -3))))
  drop i32.const 0`
const errorText = `
  (data (i32.const 64) "the limit must be above 0")
  (func (export "pando_error_ptr") (result i32) i32.const 64)
  (func (export "pando_error_len") (result i32) i32.const 25)`

test('P9: a configuration that the policy refuses is refused with its words, and the old one goes on serving', async () => {
  const region = await openRegion()
  const module = policyModule({ hooks: { admit: shedAll }, init: refuseConfiguration, fields: errorText })
  const digest = await region.serve(module)
  const bad = JSON.stringify({ padding: 'x'.repeat(100) })
  await refused(
    region.host.activate({ name: 'test-policy', digest, config: bad }),
    'initialised',
    /the limit must be above 0/,
  )
  assert.equal(region.host.decisions.admit(admitInput()).verdict, 'shed')
  assert.equal(region.store.deployment().epoch, 1)
  await refused(
    region.host.activate({ name: 'test-policy', digest, config: '[1]' }),
    'initialised',
    /JSON object/,
  )
  await refused(region.host.activate({ name: 'test-policy', digest, config: '{' }), 'initialised', /not JSON/)
  await region.host.close()
})

test('P9: a deployment that another node made and that does not load here leaves the old version serving, and says why', async () => {
  const region = await openRegion()
  const digest = await region.serve(policyModule({ hooks: { admit: shedAll } }))
  const missing = 'f'.repeat(64)
  await region.store.deploy({
    epoch: 2,
    policies: [
      {
        name: 'test-policy',
        versions: [{ digest: missing, percent: 100, config: '{}', sinceMs: 0 }],
        history: [{ digest, percent: 100, config: '{}', sinceMs: 0 }],
      },
    ],
  })
  await region.host.settled()
  assert.equal(region.host.decisions.admit(admitInput()).verdict, 'shed')
  const [status] = region.host.status().policies
  assert.equal(status?.digest, missing)
  assert.equal(status?.failure?.stage, 'fetched')
  assert.match(status?.failure?.reason ?? '', /is not here/)
  await region.host.close()
})

/** Answers with what its configuration says: sheds when it holds the byte `1` in `"shed":1`. */
const configurable = {
  fields: '(global $shed (mut i32) (i32.const 0))',
  // Looks for `:1` in the configuration.
  init: `(local $at i32)
    (loop $next
      (if (i32.eq (i32.load16_u (i32.add (local.get $config) (local.get $at))) (i32.const 0x313a))
        (then (global.set $shed (i32.const 2))))
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (br_if $next (i32.lt_u (local.get $at) (i32.sub (local.get $length) (i32.const 1)))))
    i32.const 0`,
  hooks: { admit: '(i32.store8 (local.get $out) (global.get $shed)) i32.const 0' },
}

test('P10: the same module with another configuration is another instance, and rolls back like a version', async () => {
  const region = await openRegion()
  const digest = await region.serve(policyModule(configurable), '{"shed":0}')
  const verdict = () => region.host.decisions.admit(admitInput()).verdict
  assert.equal(verdict(), 'admit')
  await region.host.activate({ name: 'test-policy', digest, config: '{"shed":1}' })
  assert.equal(verdict(), 'shed')
  await region.host.rollback('test-policy')
  assert.equal(verdict(), 'admit')
  await region.host.close()
})

test('P10: new names of classes and tenants initialise every version anew', async () => {
  const region = await openRegion()
  await region.serve(policyModule(configurable))
  assert.equal(region.host.decisions.admit(admitInput()).verdict, 'admit')
  await region.host.setTables({ classes: ['a:1'], tenants: [''], buckets: [''] })
  assert.equal(region.host.decisions.admit(admitInput()).verdict, 'shed')
  await region.host.close()
})

test('P14: wrong signatures, foreign keys, and keys that may not sign this are each refused with their own words', async () => {
  const key = await policyKeyPair(new Uint8Array(32).fill(1))
  const stranger = await policyKeyPair(new Uint8Array(32).fill(2))
  const wasm = policyModule({ name: 'team-a-fair', hooks: { admit: admitAll } })
  const other = policyModule({ name: 'team-a-fair', hooks: { admit: shedAll } })
  const signature = await signPolicy(wasm, key.secretKey)
  const withTrust = async (names: readonly string[], hooks: readonly ('admit' | 'select')[]) =>
    (await openRegion({ trust: { keys: [{ publicKey: key.publicKey, names, hooks }] } })).host

  const host = await withTrust(['team-a-*'], ['admit'])
  assert.equal((await host.push({ wasm, signature })).signedBy, key.publicKey)
  await refused(host.push({ wasm }), 'verified', /not signed/)
  await refused(host.push({ wasm: other, signature }), 'verified', /is not one of this module/)
  await refused(
    host.push({ wasm, signature: { ...signature, signature: '00'.repeat(64) } }),
    'verified',
    /is not one of this module/,
  )
  await refused(
    host.push({ wasm, signature: { ...signature, signature: 'short' } }),
    'verified',
    /is not one of this module/,
  )
  await refused(
    host.push({ wasm, signature: await signPolicy(wasm, stranger.secretKey) }),
    'verified',
    /not trusted/,
  )
  const changed = withCustomSections(wasm, { 'pando.manifest': new TextEncoder().encode('{}') })
  await refused(host.push({ wasm: changed, signature }), 'validated', /manifest/)
  await refused(
    (await withTrust(['team-b-*'], ['admit'])).push({ wasm, signature }),
    'verified',
    /called team-a-fair/,
  )
  await refused(
    (await withTrust(['team-a-fair'], ['select'])).push({ wasm, signature }),
    'verified',
    /hook admit/,
  )
})

test('P14: a package whose bytes are not those of its digest is refused', async () => {
  const region = await openRegion()
  const wasm = policyModule({ hooks: { admit: admitAll } })
  const digest = digestOf(policyModule({ hooks: { admit: shedAll } }))
  await region.store.putPackage(digest, { wasm })
  await refused(
    region.host.activate({ name: 'test-policy', digest }),
    'verified',
    /it was changed on its way/,
  )
  await region.host.close()
})

const malicious: readonly (readonly [string, PolicyStage, RegExp, () => Uint8Array])[] = [
  [
    'endless init',
    'initialised',
    /burnt 5000000 fuel/,
    () => policyModule({ init: '(loop $l br $l) i32.const 0' }),
  ],
  [
    'endless start',
    'initialised',
    /start function burnt 5000000 fuel .* does it end\?/,
    () => policyModule({ manifest: { start: true }, fields: '(func $s (loop $l br $l)) (start $s)' }),
  ],
  [
    'endless recursion in init',
    'initialised',
    /burnt 5000000 fuel|call stack/,
    () => policyModule({ init: 'call $f i32.const 0', fields: '(func $f call $f)' }),
  ],
  [
    'endless hook',
    'self-tested',
    /burnt its 5000 fuel/,
    () => policyModule({ hooks: { admit: '(loop $l br $l) i32.const 0' } }),
  ],
  [
    'memory bomb in init that insists',
    'initialised',
    /burnt 5000000 fuel/,
    () =>
      policyModule({
        init: '(loop $l (br_if $l (i32.eq (memory.grow (i32.const 1000)) (i32.const -1)))) i32.const 0',
      }),
  ],
  [
    'table bomb in init that insists',
    'initialised',
    /burnt 5000000 fuel/,
    () =>
      policyModule({
        fields: '(table $t 1 funcref)',
        init: '(loop $l (br_if $l (i32.eq (table.grow $t (ref.null func) (i32.const 100000)) (i32.const -1)))) i32.const 0',
      }),
  ],
  [
    'forged fuel',
    'validated',
    /not a valid WebAssembly module/,
    () => policyModule({ hooks: { admit: `i32.const 2000000000 global.set 2 ${admitAll}` } }),
  ],
  [
    'unknown import',
    'validated',
    /env\.exec/,
    () => policyModule({ imports: '(import "env" "exec" (func (param i32)))' }),
  ],
  [
    'NaN',
    'self-tested',
    /delayMs is NaN/,
    () =>
      policyModule({ hooks: { admit: `(f64.store offset=8 (local.get $out) (f64.const nan)) ${admitAll}` } }),
  ],
  [
    'index out of range',
    'self-tested',
    /index is 1000/,
    () => policyModule({ hooks: { select: '(i32.store (local.get $out) (i32.const 1000)) i32.const 0' } }),
  ],
  [
    'regions outside its memory',
    'initialised',
    /ends behind the memory|gave memory that there is not/,
    () => policyModule({ memory: '(memory (export "memory") 1)', hooks: { resolve: 'i32.const 1' } }),
  ],
  [
    'state kept from call to call',
    'self-tested',
    /must not keep state/,
    () =>
      policyModule({
        fields: '(global $calls (mut i32) (i32.const 0))',
        hooks: {
          admit: `(global.set $calls (i32.add (global.get $calls) (i32.const 1)))
            (i32.store offset=4 (local.get $out) (global.get $calls)) ${admitAll}`,
        },
      }),
  ],
  [
    'a vector that is not met',
    'self-tested',
    /vector 'small' of admit: verdict: expected "shed", got "admit"/,
    () =>
      policyModule({
        hooks: { admit: admitAll },
        vectors: { vectors: [{ name: 'small', hook: 'admit', input: {}, expect: { verdict: 'shed' } }] },
      }),
  ],
  [
    'more fuel than its manifest promises',
    'self-tested',
    /burnt \d+ fuel, the manifest promises at most 2/,
    () =>
      policyModule({
        hooks: { admit: admitAll },
        manifest: { fuel: { admit: 2 } },
        vectors: { vectors: [{ name: 'any', hook: 'admit', input: {}, expect: { verdict: 'admit' } }] },
      }),
  ],
]

for (const [name, stage, message, make] of malicious) {
  test(`P2: ${name} is refused at ${stage}, and the message says why`, async () => {
    const region = await openRegion()
    await region.serve(policyModule({ hooks: { admit: shedAll } }))
    await refused(region.host.push({ wasm: make() }), stage, message)
    assert.equal(region.host.decisions.admit(admitInput()).verdict, 'shed', 'the old one goes on serving')
    await region.host.close()
  })
}

test('P4: three thousand reloads: memory and address space stay bounded, no decision is lost', async () => {
  const region = await openRegion()
  const digest = await region.serve(policyModule(configurable), '{"n":0}')
  const residentMiB = () => process.memoryUsage().rss / 2 ** 20
  let afterFirst = 0
  for (let round = 1; round <= 3_000; round++) {
    await region.host.activate({ name: 'test-policy', digest, config: `{"n":"${round}"}` })
    assert.equal(region.host.decisions.admit(admitInput()).policy, 'test-policy@1.0.0')
    if (round === 1_000) afterFirst = residentMiB()
  }
  // 12,900 instances are the end of a process: had none been collected, 15,000 would be alive.
  assert.ok(region.host.status().policies.length <= 2)
  const grownMiB = residentMiB() - afterFirst
  assert.ok(grownMiB < 150, `${grownMiB.toFixed(0)} MiB more after 2000 further reloads`)
  assert.ok((region.store.deployment().policies[0]?.history.length ?? 0) <= 10)
  await region.host.close()
})

/** Steps by the lengths of the header: takes the candidate with the smallest median, wherever the items lie. */
const shortest = `(local $at i32) (local $best f64) (local $n i32) (local $i i32)
  (local.set $at (i32.add (local.get $in) (i32.load16_u offset=2 (local.get $in))))
  (local.set $n (i32.load16_u offset=6 (local.get $in)))
  (local.set $best (f64.const inf))
  (loop $next
    (if (f64.lt (f64.load offset=8 (local.get $at)) (local.get $best)) (then
      (local.set $best (f64.load offset=8 (local.get $at)))
      (i32.store (local.get $out) (local.get $i))))
    (local.set $at (i32.add (local.get $at) (i32.load16_u offset=4 (local.get $in))))
    (br_if $next (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (local.get $n))))
  i32.const 0`
const threeCandidates = [3, 1, 2].map((rttP50Ms) => ({ transport: 'tcp', rttP50Ms }))

test('P8: a policy that was built for a later minor version runs on this host', async () => {
  const region = await openRegion()
  await region.serve(policyModule({ hooks: { select: shortest }, abi: 0x10007 }))
  assert.equal(region.host.decisions.select(selectInput({ candidates: threeCandidates })).index, 1)
  await region.host.close()
})

test('P8: a policy of today reads the structs of a host of tomorrow, which has appended fields', () => {
  const examined = examineModule(policyModule({ hooks: { select: shortest } }))
  const { bytes } = meterModule(examined.parsed, { gates: gatesOf(examined) })
  const { ports } = createGuest({ ...examined, module: new WebAssembly.Module(bytes) }, '{}', () => undefined)
  const port = ports.select
  assert.ok(port)
  const { memory } = port
  const length = writeSelectInput(memory, selectInput({ candidates: threeCandidates }))
  const header = memory.u16[memory.input / 2 + 1] as number
  const item = memory.u16[memory.input / 2 + 2] as number
  const today = memory.u8.slice(memory.input, memory.input + length)
  // 16 bytes more behind the header, 24 behind each item, all of them noise.
  const [newHeader, newItem] = [header + 16, item + 24]
  memory.u8.fill(0xa5, memory.input + header, memory.input + newHeader + 3 * newItem)
  for (let index = 0; index < 3; index++) {
    const from = header + index * item
    memory.u8.set(today.subarray(from, from + item), memory.input + newHeader + index * newItem)
  }
  memory.u16[memory.input / 2 + 1] = newHeader
  memory.u16[memory.input / 2 + 2] = newItem
  port.refuel(port.fuel)
  assert.equal(port.hook(memory.input, newHeader + 3 * newItem, memory.output, port.outputBytes), 0)
  assert.equal(memory.i32[memory.output / 4], 1)
})

test('P15: where address space is limited, a process says so clearly and the fallbacks decide', () => {
  const program = `
    import { openRegion, admitInput } from ${JSON.stringify(kit)}
    import { readFileSync } from 'node:fs'
    const { host, log } = await openRegion()
    const wasm = new Uint8Array(readFileSync(0))
    const push = await host.push({ wasm }).then(() => 'pushed', (reason) => reason.message)
    console.log(JSON.stringify({ unavailable: host.status().unavailable, push, log: log.map(({ message }) => message),
      decided: host.decisions.admit(admitInput()).policy }))
    await host.close()`
  const run = (prefix: string, flags: readonly string[] = []) => {
    // 8 GB: Node starts, an instance does not. The assembler of the kit is WebAssembly too, so the module comes in from outside.
    const child = spawnSync(
      'sh',
      ['-c', `${prefix} exec "$0" "$@"`, process.execPath, ...flags, '--input-type=module', '-e', program],
      {
        input: policyModule({ hooks: { admit: shedAll } }),
        encoding: 'utf8',
        timeout: 60_000,
      },
    )
    assert.equal(child.status, 0, child.stderr)
    return JSON.parse(child.stdout) as { unavailable?: string; push: string; log: string[]; decided: string }
  }
  const limited = run('ulimit -v 8000000;')
  assert.match(limited.unavailable ?? '', /ulimit -v unlimited/)
  assert.match(limited.log.join('\n'), /ulimit -v unlimited/)
  assert.equal(limited.decided, 'fallback')
  assert.match(limited.push, /POLICY_REFUSED/)
  assert.equal(run('').unavailable, undefined)
})

test('P16: two threads with the same policy decide alike, whatever they were asked before', async () => {
  const wasm = policyModule({
    hooks: {
      // Mixes seed, hash and tokens into the reason: any difference in what crosses would show.
      admit: `(i32.store offset=4 (local.get $out) (i32.xor (i32.load offset=12 (local.get $in))
          (i32.add (i32.load offset=32 (local.get $in)) (i32.trunc_sat_f64_s (f64.load offset=80 (local.get $in))))))
        (i32.store8 (local.get $out) (i32.and (i32.load offset=12 (local.get $in)) (i32.const 1))) i32.const 0`,
    },
  })
  const program = `
    const { openRegion, makeInput } = await import(${JSON.stringify(kit)})
    const { parentPort, workerData } = await import('node:worker_threads')
    const region = await openRegion()
    await region.serve(workerData.wasm)
    const order = workerData.backwards ? [...workerData.inputs.keys()].reverse() : [...workerData.inputs.keys()]
    const decided = []
    for (const at of order) decided[at] = { ...region.host.decisions.admit(makeInput('admit', workerData.inputs[at])) }
    await region.host.close()
    parentPort.postMessage(decided)`
  const inputs = Array.from({ length: 500 }, (_, index) => ({
    seed: (index * 2654435761) >>> 0,
    requestHash: String((BigInt(index) * 0x9e3779b97f4a7c15n) % (1n << 64n)),
    tokens: index - 250,
  }))
  const decide = (backwards: boolean) =>
    new Promise<unknown>((resolve, reject) => {
      const worker = new Worker(new URL(`data:text/javascript,${encodeURIComponent(program)}`), {
        workerData: { wasm, inputs, backwards },
      })
      worker.once('message', resolve)
      worker.once('error', reject)
    })
  const [one, other] = await Promise.all([decide(false), decide(true)])
  assert.deepEqual(one, other)
  assert.equal(new Set((one as { reason: number }[]).map(({ reason }) => reason)).size > 400, true)
})

test('status tells what serves, explain what it was asked and said, with the words of the manifest', async () => {
  const region = await openRegion()
  await region.serve(
    policyModule({
      name: 'demo',
      hooks: { admit: `(i32.store offset=4 (local.get $out) (i32.const 3)) ${shedAll}` },
      manifest: { reasons: { 3: 'over its share' } },
    }),
  )
  region.host.decisions.admit(admitInput({ tokens: 5 }))
  const [explained] = region.host.explain('admit')
  assert.equal(explained?.policy, 'demo@1.0.0')
  assert.equal(explained?.reasonText, 'over its share')
  assert.equal(Reflect.get(explained?.input as object, 'tokens'), 5)
  assert.deepEqual(Reflect.get(explained?.decision as object, 'verdict'), 'shed')
  assert.match(region.host.traceLines(), /^\{"pandoTrace":1[^\n]*\n\{"hook":"admit","policy":"demo@1.0.0"/)
  const { epoch, policies } = region.host.status()
  assert.equal(epoch, 1)
  assert.deepEqual(
    policies.map(({ name, stage, percent, hooks }) => ({ name, stage, percent, hooks })),
    [{ name: 'demo', stage: 'active', percent: 100, hooks: ['admit'] }],
  )
  await region.host.close()
})

test('inspect tells everything of a package, also of one that would be refused', async () => {
  const region = await openRegion()
  const vectors = {
    vectors: [
      { name: 'all', hook: 'admit', input: {}, expect: { verdict: 'admit' } },
      { name: 'none', hook: 'admit', input: { tokens: 0 }, expect: { verdict: 'shed' } },
    ],
  }
  const inspection = await region.host.inspect({
    wasm: policyModule({ hooks: { admit: admitAll }, vectors }),
  })
  assert.equal(inspection.manifest?.name, 'test-policy')
  assert.deepEqual(inspection.hooks, ['admit'])
  assert.equal(inspection.fuelSites, 3)
  assert.deepEqual(
    inspection.vectors.map(({ name, difference }) => [name, difference]),
    [
      ['all', undefined],
      ['none', 'verdict: expected "shed", got "admit"'],
    ],
  )
  assert.equal(inspection.failure?.stage, 'self-tested')
  const { decisions } = region.host
  assert.equal(decisions.plan(makeInput('plan', { classes: [{ classIndex: 0 }] })).policy, 'fallback')
  await region.host.close()
})
