import assert from 'node:assert/strict'
import test from 'node:test'
import fc from 'fast-check'
import { defaultTables } from '../../../plugins/abi/json-values.ts'
import { packedAnswer } from '../../../plugins/abi/packed-answer.ts'
import { examineModule } from '../../../plugins/host/examine-module.ts'
import { askAdmit, askResolve } from '../../../plugins/host/generated/hook-calls.ts'
import { createGuest, type GuestInstance, gatesOf } from '../../../plugins/host/guest-instance.ts'
import { type CallFault, createRunner, type HookRunner } from '../../../plugins/host/hook-runner.ts'
import { hookStructs } from '../../../plugins/host/hook-structs.ts'
import { meterModule } from '../../../plugins/host/wasm/meter-module.ts'
import { ModuleRefusal } from '../../../plugins/host/wasm/module-refusal.ts'
import { randomInput, seededNumbers } from '../../../plugins/kit/sample-inputs.ts'
import { admitAll, type PolicyText, policyModule, shedAll } from '../../kit/policies/assemble.ts'
import { admitInput, makeInput, openRegion } from '../../kit/policies/policy-region.ts'

const abi = 0x10002
const fields =
  '(param $out i32) (param $seed i32) (param $now f64) (param $deadline f64) (param $class i32) (param $tokens f64) (param $wait f64) (param $p50 f64) (param $p99 f64) (param $slo f64) (param $utilisation f64)'
/** A policy whose `admit` takes brief questions as parameters. */
const byValue = (body: string, more: PolicyText = {}) =>
  policyModule({
    abi,
    hooks: { admit: 'i32.const 1' },
    manifest: { brief: ['admit'] },
    ...more,
    fields: `(func $brief (export "pando_admit_brief") ${fields} (result i32) ${body}) ${more.fields ?? ''}`,
  })

function openGuest(wasm: Uint8Array): GuestInstance {
  const examined = examineModule(wasm)
  const { bytes } = meterModule(examined.parsed, { gates: gatesOf(examined) })
  return createGuest({ ...examined, module: new WebAssembly.Module(bytes) }, '{}', () => undefined)
}

function openAdmit(guest: GuestInstance): {
  readonly runner: HookRunner<'admit'>
  readonly faults: CallFault[]
} {
  const faults: CallFault[] = []
  const events = {
    onFault: (_: unknown, fault: CallFault) => void faults.push(fault),
    onSample: () => undefined,
    onTrace: () => undefined,
    monotonic: () => 0,
  }
  const runner = createRunner('admit', 'test', 5, events)
  runner.port = guest.ports.admit
  return { runner, faults }
}

function refusal(wasm: Uint8Array): string {
  try {
    examineModule(wasm)
  } catch (reason) {
    assert.ok(reason instanceof ModuleRefusal, String(reason))
    return reason.message
  }
  throw new assert.AssertionError({ message: 'the module was let in' })
}

test('the fields of a brief question arrive as parameters, each in its place', () => {
  const sum = ['deadline', 'tokens', 'wait', 'p50', 'p99', 'slo', 'utilisation']
    .map((name, at) => `(f64.mul (local.get $${name}) (f64.const ${2 ** at}))`)
    .reduce((left, right) => `(f64.add ${left} ${right})`)
  const guest = openGuest(
    byValue(`(f64.store offset=8 (local.get $out) (f64.add ${sum} (f64.convert_i32_u (local.get $class))))
      (i32.or (i32.const ${packedAnswer + 128 + 64}) (i32.and (local.get $seed) (i32.const 63)))`),
  )
  const { runner, faults } = openAdmit(guest)
  for (let seed = 0; seed < 200; seed++) {
    const random = seededNumbers(seed)
    const at = (most: number) => Math.floor(random() * most)
    const input = admitInput({
      seed: at(2 ** 31),
      deadlineMs: at(99),
      classIndex: at(5),
      tokens: at(99),
      tokenWaitMs: at(99),
      p50Ms: at(99),
      p99Ms: at(99),
      sloMs: at(99),
      utilisation: at(2),
    })
    const expected = [
      input.deadlineMs,
      input.tokens,
      input.tokenWaitMs,
      input.p50Ms,
      input.p99Ms,
      input.sloMs,
      input.utilisation,
    ].reduce((total, value, index) => total + value * 2 ** index, input.classIndex)
    assert.deepEqual(askAdmit(runner, input), {
      policy: 'test',
      verdict: 'delay',
      reason: input.seed & 63,
      delayMs: expected,
    })
  }
  assert.deepEqual(faults, [])
})

test('an answer by value is checked as the memory is: no number of a guest passes for a decision', () => {
  // The status and the delay are what the test has put into the memory of the guest, in front of its regions.
  const guest = openGuest(
    byValue(`(f64.store offset=8 (local.get $out) (f64.load (i32.const 264))) (i32.load (i32.const 272))`),
  )
  const { memory } = guest.ports.admit ?? assert.fail()
  const status = fc.oneof(
    fc.constantFrom(0, 1, 3, -1, -(2 ** 31), 2 ** 31 - 1, packedAnswer - 1, packedAnswer + 384),
    fc.integer({ min: packedAnswer, max: packedAnswer + 400 }),
  )
  const delay = fc.constantFrom(0, 1, 0.25, 3_600_000, 3_600_001, -1, Number.NaN, Number.POSITIVE_INFINITY)
  let decided = 0
  fc.assert(
    fc.property(status, delay, (answer, delayMs) => {
      memory.f64[264 / 8] = delayMs
      memory.i32[272 / 4] = answer
      const { runner, faults } = openAdmit(guest)
      const decision = askAdmit(runner, admitInput())
      const packed = answer - packedAnswer
      const hasDelay = (packed & 64) !== 0
      const isValid = packed >= 0 && packed < 384 && (!hasDelay || (delayMs >= 0 && delayMs <= 3_600_000))
      if (isValid) {
        decided++
        assert.deepEqual(decision, {
          policy: 'test',
          verdict: ['admit', 'delay', 'shed'][packed >> 7],
          reason: packed & 63,
          delayMs: hasDelay ? delayMs : 0,
        })
        assert.deepEqual(faults, [])
      } else {
        assert.equal(decision, undefined)
        const kinds = answer === 1 ? [] : answer < 0 ? ['error'] : ['invalid-output']
        assert.deepEqual(
          faults.map(({ kind }) => kind),
          kinds,
        )
      }
    }),
    { numRuns: 1_000 },
  )
  assert.ok(decided > 100)
})

test('what does not fit into a number is written to the output; the whole question follows when it is wanted', () => {
  const guest = openGuest(
    byValue(
      `(if (i32.eqz (local.get $seed)) (then (return (i32.const 2))))
       (i32.store8 (local.get $out) (i32.const 2)) (i32.store offset=4 (local.get $out) (i32.const 1000)) i32.const 0`,
      {
        hooks: {
          admit: `(f64.store offset=8 (local.get $out) (f64.convert_i32_u (i32.load offset=40 (local.get $in)))) (i32.store8 (local.get $out) (i32.const 1)) i32.const 0`,
        },
      },
    ),
  )
  const { runner, faults } = openAdmit(guest)
  for (let round = 0; round < 3; round++) {
    assert.deepEqual(
      { ...askAdmit(runner, admitInput({ seed: 1, tenant: 9 })) },
      { policy: 'test', verdict: 'shed', reason: 1000, delayMs: 0 },
    )
    assert.deepEqual(
      { ...askAdmit(runner, admitInput({ seed: 0, tenant: 9 })) },
      { policy: 'test', verdict: 'delay', reason: 0, delayMs: 9 },
    )
  }
  assert.deepEqual(faults, [])
})

test('fuel bounds an answer by value, and calling its own function fills no tank', () => {
  const again = `(call $brief ${fields
    .match(/\$\w+/g)
    ?.map((name) => `(local.get ${name})`)
    .join(' ')})`
  for (const body of ['(loop $l br $l) i32.const 1', again]) {
    const { runner, faults } = openAdmit(openGuest(byValue(body)))
    assert.equal(askAdmit(runner, admitInput()), undefined)
    assert.deepEqual(
      faults.map((fault) => fault.kind === 'trap' && fault.outOfFuel),
      [true],
    )
  }
})

test('resolve by value gets both sides', () => {
  const guest = openGuest(
    policyModule({
      abi,
      hooks: { resolve: 'i32.const 1' },
      manifest: { brief: ['resolve'] },
      fields: `(func (export "pando_resolve_brief") (param $out i32) (param $r0 i32) (param $h0 i64) (param $r1 i32) (param $h1 i64) (result i32)
        (i32.add (i32.add (i32.const ${packedAnswer}) (i32.shl (i64.lt_u (local.get $h0) (local.get $h1)) (i32.const 6)))
          (i32.add (i32.mul (local.get $r0) (i32.const 8)) (local.get $r1))))`,
    }),
  )
  const events = {
    onFault: assert.fail,
    onSample: () => undefined,
    onTrace: () => undefined,
    monotonic: () => 0,
  }
  const runner = createRunner('resolve', 'test', 5, events)
  runner.port = guest.ports.resolve
  const input = (hlcs: readonly string[]) =>
    makeInput('resolve', { versions: hlcs.map((hlc, at) => ({ region: at + 3, hlc })) })
  const older = askResolve(runner, input(['18446744073709551614', '18446744073709551615']))
  assert.deepEqual([older?.outcome, older?.reason], ['second', 28])
  assert.equal(askResolve(runner, input(['7', '6']))?.outcome, 'first')
})

test('a function of another type, or one that the manifest does not ask for, is refused; before 1.2 it meant nothing', () => {
  const wrong = policyModule({
    abi,
    hooks: { admit: admitAll },
    manifest: { brief: ['admit'] },
    fields: '(func (export "pando_admit_brief") (param i32 f64) (result i32) i32.const 1)',
  })
  assert.match(
    refusal(wrong),
    /pando_admit_brief with another type than \(i32, i32, f64, f64, i32, f64, .* -> i32/,
  )
  assert.match(refusal(byValue('i32.const 1', { manifest: {} })), /does not name admit in "brief"/)
  const old = examineModule(byValue('unreachable', { abi: 0x10001 }))
  assert.deepEqual(old.byValue, [])
  assert.match(old.warnings.join(), /pando_admit_brief is not part of the ABI/)
  const guest = openGuest(byValue('unreachable', { abi: 0x10001, hooks: { admit: shedAll } }))
  assert.equal(askAdmit(openAdmit(guest).runner, admitInput())?.verdict, 'shed')
})

test('a module whose two functions for one hook decide differently is refused', async () => {
  const region = await openRegion()
  await assert.rejects(
    region.serve(byValue(`i32.const ${packedAnswer}`, { hooks: { admit: shedAll } })),
    /pando_admit answers .*shed.*, and pando_admit_brief .*admit.*they must decide alike/,
  )
  await region.serve(byValue(`i32.const ${packedAnswer}`, { hooks: { admit: admitAll } }))
  assert.equal(region.host.decisions.admit(admitInput()).policy, 'test-policy@1.0.0')
  await region.host.close()
})

test('random questions are answered alike by the built-in policies in both ways', async () => {
  // The self-tests of a load compare them on the probes of the host; here on more.
  const { readBuiltinPolicy } = await import('../../../plugins/builtin/builtin-policies.ts')
  const wasm = await readBuiltinPolicy('fair')
  if (wasm === undefined) throw new Error('the built-in policies are not built: npm run build')
  const guest = openGuest(wasm)
  const port = guest.ports.admit ?? assert.fail()
  assert.ok(port.byValue !== undefined)
  const { runner, faults } = openAdmit(guest)
  const verdicts = new Set<string | undefined>()
  for (let seed = 0; seed < 2_000; seed++) {
    const input = randomInput('admit', seededNumbers(seed), defaultTables)
    const decision = structuredClone(askAdmit(runner, input))
    hookStructs.admit.write(port.memory, input)
    port.refuel(port.fuel)
    assert.equal(port.hook(port.memory.input, 152, port.memory.output, 16), 0)
    assert.equal(hookStructs.admit.read(port.memory, input, 5), undefined)
    assert.deepEqual({ ...decision, policy: '' }, { ...hookStructs.admit.result, policy: '' })
    verdicts.add(decision?.verdict)
  }
  assert.deepEqual(faults, [])
  assert.equal(verdicts.size, 3)
})

/** Says that it has nothing to decide when its configuration is short: without settings. */
const wants = (name: string, version: string, more: PolicyText = {}) =>
  policyModule({
    abi,
    name,
    version,
    hooks: {
      admit: `(if (i32.eqz (global.get $asked)) (then (return (i32.const 1)))) ${shedAll}`,
    },
    fields: `(global $asked (mut i32) (i32.const 0))
      (func (export "pando_wants") (param $hook i32) (result i32)
        (select (global.get $asked) (i32.const 1) (i32.eq (local.get $hook) (i32.const 2))))`,
    init: `(global.set $asked (i32.eq (i32.load8_u offset=13 (local.get $config)) (i32.const 34))) i32.const 0`,
    ...more,
  })

test('a policy that its configuration leaves nothing to decide is not asked, and nothing before it stands in for it', async () => {
  const region = await openRegion()
  const calls = () => region.host.status().policies.map(({ counters }) => counters.admit?.calls)
  const ask = () => region.host.decisions.admit(admitInput()).verdict
  // Of the settings the first member decides: {"settings":{"...
  await region.serve(wants('caps', '1.0.0'), '{"on":1}')
  assert.equal(ask(), 'shed')
  assert.deepEqual(calls(), [1])
  await region.serve(wants('caps', '1.0.0'), '{}')
  assert.equal(ask(), 'admit')
  assert.equal(region.host.decisions.admit(admitInput()).policy, 'fallback')
  assert.deepEqual(calls().at(0), 0)
  await region.serve(wants('caps', '1.0.0'), '{"on":1}')
  assert.equal(ask(), 'shed')
  await region.host.close()
})

test('a policy that decides although it says that it has nothing to decide is refused', async () => {
  const region = await openRegion()
  await assert.rejects(
    region.serve(wants('liar', '1.0.0', { hooks: { admit: shedAll } })),
    /pando_wants says that admit has nothing to decide .* it answers .*shed/,
  )
  // Before 1.2 the export meant nothing.
  await region.serve(wants('old', '1.0.0', { hooks: { admit: shedAll }, abi: 0x10001 }))
  assert.equal(region.host.decisions.admit(admitInput()).verdict, 'shed')
  await region.host.close()
})
