import assert from 'node:assert/strict'
import test from 'node:test'
import fc from 'fast-check'
import type { PolicyDecisions, PolicyHook } from '../../../core/contract/policy.ts'
import { GuestMemory } from '../../../plugins/abi/guest-memory.ts'
import { createInputReader, defaultTables, type PolicyInputs } from '../../../plugins/abi/json-values.ts'
import { examineModule } from '../../../plugins/host/examine-module.ts'
import {
  askAdmit,
  askClassify,
  askPlan,
  askResolve,
  askSelect,
} from '../../../plugins/host/generated/hook-calls.ts'
import { acquireSeat, occupants, releaseSeat, sharedSeat } from '../../../plugins/host/guest-door.ts'
import { createGuest, type GuestInstance, gatesOf } from '../../../plugins/host/guest-instance.ts'
import { policyHooks } from '../../../plugins/host/hook-names.ts'
import { type Ask, type CallFault, createRunner, type HookRunner } from '../../../plugins/host/hook-runner.ts'
import { briefly, type HookStructs, hookStructs } from '../../../plugins/host/hook-structs.ts'
import { meterModule } from '../../../plugins/host/wasm/meter-module.ts'
import { randomInput, seededNumbers } from '../../../plugins/kit/sample-inputs.ts'
import { policyModule } from '../../kit/policies/assemble.ts'
import { admitInput, openRegion } from '../../kit/policies/policy-region.ts'

const asks: { readonly [H in PolicyHook]: Ask<H> } = {
  select: askSelect,
  classify: askClassify,
  admit: askAdmit,
  plan: askPlan,
  resolve: askResolve,
}

function openGuest(wasm: Uint8Array): GuestInstance {
  const examined = examineModule(wasm)
  const { bytes } = meterModule(examined.parsed, { gates: gatesOf(examined) })
  return createGuest({ ...examined, module: new WebAssembly.Module(bytes) }, '{}', () => undefined)
}

function openRunner<H extends PolicyHook>(
  hook: H,
  guest: GuestInstance,
  seat = sharedSeat,
): { readonly runner: HookRunner<H>; readonly faults: CallFault[] } {
  const faults: CallFault[] = []
  const events = {
    onFault: (_: PolicyHook, fault: CallFault) => void faults.push(fault),
    onSample: () => undefined,
    onTrace: () => undefined,
    monotonic: () => 0,
  }
  const runner = createRunner(hook, 'test', 5, events, seat)
  runner.port = guest.ports[hook]
  return { runner, faults }
}

/** Notes how long its regions are, as it is told, and leaves the rest as it was. */
const untouched =
  '(i32.store (i32.const 16) (local.get $inLen)) (i32.store (i32.const 20) (local.get $outLen)) i32.const 1'

for (const isBrief of [false, true]) {
  test(`a gate writes the same bytes ${isBrief ? 'of a brief question ' : ''}as the structs that self-tests and authors write, whatever was there before`, () => {
    const hooks = Object.fromEntries(policyHooks.map((hook) => [hook, untouched]))
    const guest = openGuest(policyModule({ hooks, manifest: isBrief ? { brief: policyHooks } : {} }))
    const runners = new Map(policyHooks.map((hook) => [hook, openRunner(hook, guest)]))
    fc.assert(
      fc.property(fc.constantFrom(...policyHooks), fc.integer(), (hook, seed) => {
        const input = randomInput(hook, seededNumbers(seed), defaultTables) as PolicyInputs[PolicyHook]
        const { runner, faults } = runners.get(hook) ?? openRunner(hook, guest)
        const { memory, outputBytes } = guest.ports[hook] ?? assert.fail()
        assert.equal((asks[hook] as Ask<PolicyHook>)(runner, input), undefined)
        assert.deepEqual(faults, [])

        const plain = new GuestMemory(new WebAssembly.Memory({ initial: 4 }), {
          input: { address: 8, byteLength: 66_000 },
          output: { address: 131_072, byteLength: outputBytes },
        })
        const structs = hookStructs[hook] as HookStructs<PolicyHook>
        const written = isBrief ? structs.write(plain, briefly(hook, input), 1) : structs.write(plain, input)
        assert.equal(memory.u32[4], written)
        assert.equal(memory.u32[5], outputBytes)
        const same = (from: number, plainFrom: number, length: number) =>
          assert.deepEqual(
            memory.u8.subarray(from, from + length),
            plain.u8.subarray(plainFrom, plainFrom + length),
          )
        const keyBytes = hook === 'classify' ? (plain.u8[8 + 66] as number) : 0
        // Behind the key may be what is left of a longer one: nobody is told that there is something.
        same(memory.input, 8, hook === 'classify' ? 112 + keyBytes : written)
        const outputItems = hook === 'plan' ? (input as PolicyInputs['plan']).classes.length : 0
        same(
          memory.output,
          131_072,
          hook === 'resolve' ? 16 : hook === 'plan' ? 8 + 32 * outputItems : outputBytes,
        )
      }),
      { numRuns: 400 },
    )
  })
}

test('a policy that is asked briefly gets the whole question when it wants it, and nothing of it stays for the next one', () => {
  // Brief: what a brief question has not must be 0; the seed says whether to ask for the whole. Whole: the tenant is the delay.
  const admit = `(if (i32.eqz (i32.and (i32.load offset=8 (local.get $in)) (i32.const 1)))
      (then ${/* whole */ ''}
        (i32.store8 (local.get $out) (i32.const 1))
        (f64.store offset=8 (local.get $out) (f64.convert_i32_u (i32.load offset=40 (local.get $in))))
        (return (i32.const 0))))
    (if (i32.eqz (i32.load offset=12 (local.get $in))) (then (return (i32.const 2))))
    (i32.store8 (local.get $out) (i32.const 0))
    (i32.store offset=4 (local.get $out) (i32.load offset=40 (local.get $in)))
    i32.const 0`
  const guest = openGuest(policyModule({ hooks: { admit }, manifest: { brief: ['admit'] } }))
  const { runner, faults } = openRunner('admit', guest)
  for (let round = 0; round < 3; round++) {
    const whole = askAdmit(runner, admitInput({ seed: 0, tenant: 9 }))
    assert.deepEqual([whole?.verdict, whole?.delayMs], ['delay', 9])
    const brief = askAdmit(runner, admitInput({ seed: 1, tenant: 9 }))
    assert.deepEqual([brief?.verdict, brief?.reason, brief?.delayMs], ['admit', 0, 0])
  }
  assert.deepEqual(faults, [])
  assert.equal(runner.counters.calls, 6)
  assert.equal(runner.counters.decisions, 6)
})

test('a whole question is not answered with a wish for it', () => {
  const guest = openGuest(policyModule({ hooks: { admit: 'i32.const 2' }, manifest: { brief: ['admit'] } }))
  const { runner, faults } = openRunner('admit', guest)
  assert.equal(askAdmit(runner, admitInput()), undefined)
  assert.deepEqual(
    faults.map(({ kind }) => kind),
    ['invalid-output'],
  )
})

test('an answer in a number says the same as the memory does, and no status of a guest passes for one', () => {
  // The guest answers with bytes and a status that the test has put into its memory.
  const answer = '(memory.copy (local.get $out) (i32.const 256) (i32.const 16)) (i32.load (i32.const 272))'
  const packed = ['classify', 'admit', 'resolve'] as const
  const guest = openGuest(policyModule({ hooks: Object.fromEntries(packed.map((hook) => [hook, answer])) }))
  const byte = fc.constantFrom(0, 1, 2, 3, 4, 62, 63, 64, 255)
  const delay = fc.constantFrom(0, 1, 3_600_000, 3_600_001, -1, Number.NaN, Number.POSITIVE_INFINITY)
  const status = fc.constantFrom(
    0,
    0,
    0,
    0,
    1,
    2,
    3,
    -1,
    2 ** 30 - 1,
    2 ** 30,
    2 ** 30 + 1,
    2 ** 31 - 1,
    -(2 ** 31),
  )
  const output = fc.record({ head: fc.array(byte, { minLength: 8, maxLength: 8 }), delay, status })
  fc.assert(
    fc.property(
      fc.constantFrom(...packed),
      output,
      fc.boolean(),
      (hook, { head, delay, status }, isSmall) => {
        const { memory } = guest.ports[hook] ?? assert.fail()
        memory.u8.set(head, 256)
        if (isSmall) memory.u8.fill(0, 261, 264)
        memory.f64[264 / 8] = delay
        memory.i32[272 / 4] = status
        const { runner, faults } = openRunner(hook, guest)
        const input = randomInput(hook, seededNumbers(7), defaultTables) as PolicyInputs[PolicyHook]
        const decision = structuredClone((asks[hook] as Ask<PolicyHook>)(runner as HookRunner<never>, input))
        const structs = hookStructs[hook] as HookStructs<PolicyHook>
        const problem = status === 0 ? structs.read(memory, input, 5) : 'a status'
        if (problem === undefined) {
          assert.deepEqual({ ...decision, policy: '' }, structs.result)
          assert.deepEqual(faults, [])
        } else {
          assert.equal(decision, undefined)
          const kinds = status === 1 ? [] : status < 0 ? ['error'] : ['invalid-output']
          assert.deepEqual(
            faults.map(({ kind }) => kind),
            kinds,
          )
        }
      },
    ),
    { numRuns: 2_000 },
  )
})

/** A valid decision of each hook; resolve merges, so that a blob is read too. */
const valid: Readonly<Record<PolicyHook, string>> = {
  select: '(i32.store (local.get $out) (i32.const 0))',
  classify: '(i32.store16 (local.get $out) (i32.const 1))',
  admit: '(i32.store8 (local.get $out) (i32.const 1)) (f64.store offset=8 (local.get $out) (f64.const 7))',
  plan: Array.from(
    { length: 5 },
    (_, at) => `(f64.store offset=${8 + at * 32} (local.get $out) (f64.const ${at + 1}))`,
  ).join(' '),
  resolve: `(i32.store8 (local.get $out) (i32.const 3)) (i32.store offset=8 (local.get $out) (i32.const 16))
    (i32.store offset=12 (local.get $out) (i32.const 2)) (i32.store16 offset=16 (local.get $out) (i32.const 0x7d7b))`,
}

/** A page costs more than the fuel of these; growing by none detaches the arrays all the same. */
const pages: Readonly<Partial<Record<PolicyHook, number>>> = { classify: 0, admit: 0 }

const items: Readonly<Partial<Record<PolicyHook, object>>> = {
  plan: { classes: defaultTables.classes.map((_, classIndex) => ({ classIndex })) },
  select: { candidates: [{ transport: 'tcp' }] },
  resolve: { versions: [{ region: 1 }, { region: 2 }] },
}

test('a guest that grows its memory in a call is read and written where its memory is then', () => {
  for (const hook of policyHooks) {
    const read = createInputReader().read(hook, items[hook] ?? {})
    const input = 'problem' in read ? assert.fail(read.problem) : (read as PolicyInputs[PolicyHook])
    const decided = (grows: boolean) => {
      const body = `${grows ? `(drop (memory.grow (i32.const ${pages[hook] ?? 1})))` : ''} ${valid[hook]} i32.const 0`
      const guest = openGuest(policyModule({ hooks: { [hook]: body, [other(hook)]: untouched } }))
      const { runner, faults } = openRunner(hook, guest)
      const beside = openRunner(other(hook), guest)
      const besideInput = randomInput(other(hook), seededNumbers(7), defaultTables)
      const decisions = [1, 2, 3].map(() => {
        const decision = structuredClone((asks[hook] as Ask<PolicyHook>)(runner, input))
        // The other hook of the instance learns of it too.
        const abstained = (asks[other(hook)] as Ask<PolicyHook>)(
          beside.runner,
          besideInput as PolicyInputs[PolicyHook],
        )
        assert.equal(abstained, undefined)
        const { memory } = guest.ports[other(hook)] ?? assert.fail()
        memory.reattach()
        assert.equal(memory.u32[(memory.input >>> 2) + 3], (besideInput as { seed: number }).seed)
        return decision
      })
      assert.deepEqual([...faults, ...beside.faults], [])
      assert.ok(decisions[0] !== undefined)
      return decisions
    }
    assert.deepEqual(decided(true), decided(false), hook)
  }
})

const other = (hook: PolicyHook): PolicyHook => (hook === 'classify' ? 'resolve' : 'classify')
test('the first calls are shown, a new version is measured often and an old one seldom; calls and decisions are counted to one', () => {
  const guest = openGuest(
    policyModule({
      hooks: {
        // Every third abstains: the seed says which.
        admit: `(if (i32.eqz (i32.rem_u (i32.load offset=12 (local.get $in)) (i32.const 3))) (then (return (i32.const 1)))) ${valid.admit} i32.const 0`,
      },
    }),
  )
  const { runner } = openRunner('admit', guest)
  const { counters } = runner
  const samples: number[] = []
  let decided = 0
  for (let calls = 1; calls <= 90_000; calls++) {
    const before = counters.get('samples')
    if (askAdmit(runner, admitInput({ seed: calls })) !== undefined) decided++
    assert.equal(counters.calls, calls)
    if (counters.get('samples') > before) samples.push(calls)
  }
  const expected = [
    ...Array.from({ length: 1_024 }, (_, at) => (at + 1) * 64),
    ...Array.from({ length: 23 }, (_, at) => 65_536 + (at + 1) * 1_024),
  ]
  assert.deepEqual(samples, expected)
  const { calls, decisions, abstentions } = counters.snapshot()
  assert.deepEqual(
    { calls, decisions, abstentions },
    { calls: 90_000, decisions: decided, abstentions: 30_000 },
  )
})

const shedFor = (delayMs: number) =>
  `(i32.store8 (local.get $out) (i32.const 2)) (f64.store offset=8 (local.get $out) (f64.const ${delayMs})) i32.const 0`

test('callers that share a slot reach each its own instance', () => {
  const [first, second] = [1, 2].map((delayMs) =>
    openRunner('admit', openGuest(policyModule({ hooks: { admit: shedFor(delayMs) } }))),
  )
  assert.ok(first && second)
  for (let round = 0; round < 3; round++) {
    assert.equal(askAdmit(first.runner, admitInput())?.delayMs, 1)
    assert.equal(askAdmit(second.runner, admitInput())?.delayMs, 2)
  }
})

test('more callers than slots are served, and slots come back', () => {
  const taken = Array.from({ length: 300 }, () => acquireSeat())
  assert.ok(taken.includes(sharedSeat))
  const own = taken.filter((seat) => seat !== sharedSeat)
  assert.equal(new Set(own).size, own.length)
  for (const seat of taken) releaseSeat(seat)
  const again = Array.from({ length: own.length }, () => acquireSeat())
  assert.ok(!again.includes(sharedSeat))
  for (const seat of again) releaseSeat(seat)
})

test('what is retired, or has trapped, no longer stands in the table', async () => {
  const standing = () => occupants().length
  const before = standing()
  const region = await openRegion()
  const ask: PolicyDecisions['admit'] = (input) => region.host.decisions.admit(input)
  await region.serve(policyModule({ hooks: { admit: shedFor(3) } }))
  assert.equal(ask(admitInput()).delayMs, 3)
  assert.equal(standing(), before + 1)
  await region.serve(
    policyModule({
      version: '2.0.0',
      hooks: {
        admit: `(if (i32.eq (i32.load offset=12 (local.get $in)) (i32.const 666)) (then unreachable)) ${shedFor(4)}`,
      },
    }),
  )
  assert.equal(ask(admitInput()).delayMs, 4)
  // The version before stays warm.
  assert.equal(standing(), before + 2)
  assert.equal(ask(admitInput({ seed: 666 })).policy, 'fallback')
  assert.equal(standing(), before + 1)
  assert.equal(ask(admitInput()).delayMs, 4)
  assert.equal(standing(), before + 2)
  await region.host.close()
  assert.equal(standing(), before)
})
