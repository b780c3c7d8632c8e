import assert from 'node:assert/strict'
import test from 'node:test'
import fc from 'fast-check'
import type { PolicyDecisions, PolicyHook } from '../../../core/contract/policy.ts'
import { GuestMemory } from '../../../plugins/abi/guest-memory.ts'
import { defaultTables, type PolicyInputs } from '../../../plugins/abi/json-values.ts'
import { examineModule } from '../../../plugins/host/examine-module.ts'
import {
  askAdmit,
  askClassify,
  askPlan,
  askResolve,
  askSelect,
} from '../../../plugins/host/generated/hook-calls.ts'
import { acquireSlot, occupants, releaseSlot, sharedSlot } from '../../../plugins/host/guest-door.ts'
import { createGuest, type GuestInstance, gatesOf } from '../../../plugins/host/guest-instance.ts'
import { policyHooks } from '../../../plugins/host/hook-names.ts'
import { type Ask, type CallFault, createRunner, type HookRunner } from '../../../plugins/host/hook-runner.ts'
import { type HookStructs, hookStructs } from '../../../plugins/host/hook-structs.ts'
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
  const { parsed, hooks } = examineModule(wasm)
  const { bytes } = meterModule(parsed, { gates: gatesOf(hooks) })
  return createGuest({ module: new WebAssembly.Module(bytes), hooks }, '{}', () => undefined)
}

function openRunner<H extends PolicyHook>(
  hook: H,
  guest: GuestInstance,
  slot = sharedSlot,
): { readonly runner: HookRunner<H>; readonly faults: CallFault[] } {
  const faults: CallFault[] = []
  const events = {
    onFault: (_: PolicyHook, fault: CallFault) => void faults.push(fault),
    onSample: () => undefined,
    onTrace: () => undefined,
    monotonic: () => 0,
  }
  const runner = createRunner(hook, 'test', 5, events, slot)
  runner.port = guest.ports[hook]
  return { runner, faults }
}

/** Notes how long its regions are, as it is told, and leaves the rest as it was. */
const untouched =
  '(i32.store (i32.const 16) (local.get $inLen)) (i32.store (i32.const 20) (local.get $outLen)) i32.const 1'

test('a gate writes the same bytes as the structs that self-tests and authors write, whatever was there before', () => {
  const hooks = Object.fromEntries(policyHooks.map((hook) => [hook, untouched]))
  const guest = openGuest(policyModule({ hooks }))
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
      const written = (hookStructs[hook] as HookStructs<PolicyHook>).write(plain, input)
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
  const taken = Array.from({ length: 300 }, () => acquireSlot())
  assert.ok(taken.includes(sharedSlot))
  const own = taken.filter((slot) => slot !== sharedSlot)
  assert.equal(new Set(own).size, own.length)
  for (const slot of taken) releaseSlot(slot)
  const again = Array.from({ length: own.length }, () => acquireSlot())
  assert.ok(!again.includes(sharedSlot))
  for (const slot of again) releaseSlot(slot)
})

test('what is retired, or has trapped, no longer stands in the table', async () => {
  const standing = () => occupants.filter((gates) => gates !== undefined).length
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
