// What a decision of a policy costs: the built-in policies through the host (fuel, output checks, counters) against the same
// formulas in JavaScript and against Extism, in interleaved rounds of one run; how soon an endless loop ends; how long a load
// takes. Usage: npm run bench -- policy [--rounds N] [--calls N]
//
// The baseline of the ratio is what a node has in a policy's place: a decision written in TypeScript, behind the same door. So the
// formulas stand as fallbacks of a `ServingPolicies` that has no policy: the same call, the same inputs read from the same objects,
// one result object, a counter. They are not checked, timed or traced there, as the host does not do that for its own either.
// `bare` is the formula called by itself, which the engine inlines into the loop: no node has that, but nothing is hidden.
import { mkdirSync, writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { silentLogger } from '../../../core/contract/logger.ts'
import type { PolicyDecisions, PolicyHook } from '../../../core/contract/policy.ts'
import { realEnvironment } from '../../../core/node/environment.ts'
import { policyIdl } from '../../../plugins/abi/idl.ts'
import {
  createInputReader,
  defaultTables,
  type PolicyInputs,
  toJsonValue,
} from '../../../plugins/abi/json-values.ts'
import { readBuiltinPolicy } from '../../../plugins/builtin/builtin-policies.ts'
import { examineModule } from '../../../plugins/host/examine-module.ts'
import { gateShapes } from '../../../plugins/host/generated/gate-shapes.ts'
import { numberRequestOperation } from '../../../plugins/host/generated/policy-structs.ts'
import { createGuest, gatesOf } from '../../../plugins/host/guest-instance.ts'
import { MemoryPolicyStore } from '../../../plugins/host/memory-policy-store.ts'
import { PolicyHost } from '../../../plugins/host/policy-host.ts'
import { ServingPolicies } from '../../../plugins/host/serving.ts'
import { gateParameters } from '../../../plugins/host/wasm/gate.ts'
import { valueType } from '../../../plugins/host/wasm/instructions.ts'
import { exportRefuel, meterModule } from '../../../plugins/host/wasm/meter-module.ts'
import { parseModule } from '../../../plugins/host/wasm/parse-module.ts'
import { assemble, policyModule } from '../../kit/policies/assemble.ts'
import { testFallbacks } from '../../kit/policies/policy-region.ts'
import { describeMachine, formatTable, median } from '../machine.ts'
import { openExtism } from './extism-baseline.ts'
import { fairSettings, formulas } from './formulas.ts'

const { values: options } = parseArgs({
  // Many short rounds: what else the machine does falls into a few of them, and the median does not see those.
  options: { rounds: { type: 'string', default: '300' }, calls: { type: 'string', default: '4000' } },
})
const rounds = Number(options.rounds)
const calls = Number(options.calls)

const reader = createInputReader()
function inputsOf<H extends PolicyHook>(
  hook: H,
  make: (index: number) => object,
): readonly PolicyInputs[H][] {
  return Array.from({ length: 64 }, (_, index) => {
    const context = {
      requestHash: String(index * 7919),
      seed: index * 67_108_859,
      deadlineMs: index % 4 === 0 ? 1_750_000_000_500 : 0,
    }
    const input = reader.read(hook, { ...context, ...make(index) })
    if ('problem' in input) throw new Error(input.problem)
    return input
  })
}

const operations = ['read', 'write', 'head', 'list']
const transports = ['tcp', 'rdma', 'ipoib', 'quic']
const inputs: { readonly [H in PolicyHook]: readonly PolicyInputs[H][] } = {
  select: inputsOf('select', (index) => ({
    currentIndex: (index % 5) - 1,
    currentForMs: index * 500,
    candidates: transports.map((transport, at) => ({
      transport,
      rttP50Ms: 0.005 * (1 + ((index + at) % 7)),
      rttP99Ms: 0.02 * (1 + (index % 3)),
      loss: index % 11 === 0 ? 0.01 : 0,
      load: (index % 10) / 10,
      inFlight: index,
      bytesPerSecond: 1e9,
    })),
  })),
  classify: inputsOf('classify', (index) => ({
    operation: operations[index % 4],
    key: `${index % 7 === 0 ? 'backup' : 'photos/2026'}/${index}/img-000${index}.jpg`,
    attributes: index % 8 === 0 ? ['x-purpose=backup'] : ['x-purpose=none', 'x-tier=hot'],
    byteLength: index % 5 === 0 ? 1e8 : 4096,
  })),
  admit: inputsOf('admit', (index) => ({
    operation: operations[index % 4],
    classIndex: index % 5,
    tokens: index % 3,
    tokenWaitMs: index,
    sloMs: 10,
    p50Ms: 1,
    p99Ms: index,
    utilisation: (index % 10) / 10,
    inFlight: index,
  })),
  plan: inputsOf('plan', (index) => ({
    classes: defaultTables.classes.map((_, classIndex) => ({
      classIndex,
      weight: classIndex + 1,
      sloMs: 10,
      p99Ms: index,
      limit: index % 2 === 0 ? 0 : 1000,
      reservation: 100,
      requestsPerSecond: index * 10,
    })),
  })),
  resolve: inputsOf('resolve', (index) => ({
    versions: [
      { region: 1, hlc: String(index * 31), etag: '00'.repeat(16) },
      { region: 2, hlc: String(1000 - index), etag: 'ff'.repeat(16) },
    ],
  })),
}

const store = new MemoryPolicyStore()
const host = await PolicyHost.open({
  store,
  clock: realEnvironment.clock,
  logger: silentLogger,
  trust: { keys: [], allowUnsigned: true },
  fallbacks: testFallbacks,
  tables: defaultTables,
})
for (const name of ['adaptive', 'fair', 'failover-latest'] as const) {
  const wasm = await readBuiltinPolicy(name)
  if (wasm === undefined) throw new Error(`the built-in policy ${name} is not built: npm run build`)
  const config = JSON.stringify(name === 'fair' ? fairSettings : {})
  const { digest } = await host.push({ wasm }, { config })
  await host.activate({ name, digest, config })
}

const native = new ServingPolicies(formulas)

/** A ratio says something only about things that do the same. */
function checkAlike<H extends PolicyHook>(hook: H): void {
  for (const input of inputs[hook]) {
    const [ours, plain] = [host.decisions, native].map((decisions) => {
      const decide = decisions[hook] as (input: PolicyInputs[H]) => object
      const { policy, ...rest } = { policy: '', ...decide(input) }
      if (policy === 'fallback') throw new Error(`no policy decided ${hook}`)
      return JSON.stringify(
        toJsonValue(rest),
        Object.keys(rest).toSorted().concat('weight', 'reservation', 'limit', 'burst'),
      )
    })
    if (ours !== plain) throw new Error(`${hook} decides ${ours}, its formula in JavaScript ${plain}`)
  }
}

let sink = 0
/** ns for each call. Each hook and each side has a loop of its own, so that none spoils what the engine learns of another. */
const loops: { readonly [H in PolicyHook]: (decisions: PolicyDecisions, times: number) => number } = {
  select: makeLoop('select', 'decisions.select(list[index & 63]).index'),
  classify: makeLoop('classify', 'decisions.classify(list[index & 63]).classIndex'),
  admit: makeLoop('admit', 'decisions.admit(list[index & 63]).delayMs'),
  plan: makeLoop('plan', 'decisions.plan(list[index & 63]).reason'),
  resolve: makeLoop('resolve', 'decisions.resolve(list[index & 63]).reason'),
}
function makeLoop(hook: PolicyHook, body: string): (decisions: PolicyDecisions, times: number) => number {
  const make = () =>
    new Function(
      'decisions',
      'list',
      'times',
      `let sum = 0; const began = performance.now(); for (let index = 0; index < times; index++) sum += ${body};
       return [((performance.now() - began) * 1e6) / times, sum]`,
    )
  const bySide = new Map<PolicyDecisions, ReturnType<typeof make>>()
  return (decisions, times) => {
    const run = bySide.get(decisions) ?? make()
    bySide.set(decisions, run)
    const [ns, sum] = run(decisions, inputs[hook], times) as [number, number]
    sink += sum
    return ns
  }
}

/**
 * What `admit` cannot go below: the fields of its input read and handed to an empty function in WebAssembly with the parameters of
 * its gate. Nothing is stored, decided, checked or counted.
 */
function openFloor(): (times: number) => number {
  const types: Readonly<Record<number, string>> = { [valueType.i64]: 'i64', [valueType.f64]: 'f64' }
  const parameters = gateParameters(gateShapes.admit).map((type) => types[type] ?? 'i32')
  const { exports } = new WebAssembly.Instance(
    new WebAssembly.Module(
      assemble(`(module (func (export "empty") (param ${parameters.join(' ')}) (result i32) i32.const 0))`),
    ),
  )
  const fields = [
    ...policyIdl.header.fields,
    ...(policyIdl.hooks.find(({ name }) => name === 'admit')?.input.fields ?? []),
  ]
  const values = fields.flatMap(({ kind, name }) =>
    kind === 'reserved' || kind === 'framing'
      ? []
      : [kind === 'enum' ? `number(input.${name})` : `input.${name}`],
  )
  if (values.length !== parameters.length - 3)
    throw new Error('the gate of admit has other parameters than its input')
  const run = new Function(
    'empty',
    'number',
    'list',
    'times',
    `let sum = 0; const began = performance.now(); for (let index = 0; index < times; index++) {
       const input = list[index & 63]; sum += empty(8, 152, 1024, ${values.join(', ')}) }
     return [((performance.now() - began) * 1e6) / times, sum]`,
  )
  return (times) => {
    const [ns, sum] = run(exports['empty'], numberRequestOperation, inputs.admit, times) as [number, number]
    sink += sum
    return ns
  }
}

const floorNs = openFloor()
const extism = await openExtism()
async function extismNs(times: number): Promise<number> {
  const began = performance.now()
  for (let index = 0; index < times; index++)
    sink += await extism.admit(inputs.admit[index & 63] as PolicyInputs['admit'])
  return ((performance.now() - began) * 1e6) / times
}

const hooks = ['select', 'classify', 'admit', 'plan', 'resolve'] as const
for (const hook of hooks) checkAlike(hook)
const measured = new Map<string, number[]>()
const note = (name: string, value: number) => void measured.set(name, [...(measured.get(name) ?? []), value])
const of = (name: string) => median(measured.get(name) ?? [])
for (let round = -50; round < rounds; round++) {
  for (const hook of hooks) {
    const bare = loops[hook](formulas, calls)
    const plain = loops[hook](native, calls)
    const ours = loops[hook](host.decisions, calls)
    // The first rounds are for the compiler.
    if (round < 0) continue
    note(`${hook} bare`, bare)
    note(`${hook} in JavaScript`, plain)
    note(`${hook} by policy`, ours)
  }
  const floor = floorNs(calls)
  if (round >= 0) note('admit, empty call', floor)
  const other = await extismNs(Math.min(calls, 100))
  if (round >= 0) note('admit by Extism', other)
}

/** An endless loop, from the call to the trap. */
function trapMs(fuel: number): number {
  const spin = assemble('(module (func (export "spin") (loop $l br $l)))')
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(meterModule(parseModule(spin)).bytes))
  const call = (name: string, value: number) => (exports[name] as (value: number) => void)(value)
  call(exportRefuel, fuel)
  const began = performance.now()
  try {
    call('spin', 0)
  } catch {
    return performance.now() - began
  }
  throw new Error('the loop ended by itself')
}

/** Module to instance that answers, all that a policy of that size needs between push and shadow but its own tests. */
function loadMs(wasm: Uint8Array): number {
  const began = performance.now()
  const examined = examineModule(wasm)
  const { bytes } = meterModule(examined.parsed, { gates: gatesOf(examined) })
  createGuest({ ...examined, module: new WebAssembly.Module(bytes) }, '{}', () => undefined)
  return performance.now() - began
}
const small = policyModule({ hooks: { admit: '(i32.store8 (local.get $out) (i32.const 0)) i32.const 0' } })
const fair = (await readBuiltinPolicy('fair')) ?? small
for (let round = -5; round < 60; round++) {
  const spins = [5_000, 20_000, 100_000].map((fuel) => [fuel, trapMs(fuel)] as const)
  const loads = [loadMs(small), loadMs(fair)] as const
  if (round < 0) continue
  for (const [fuel, ms] of spins) note(`endless loop with ${fuel} fuel`, ms)
  note(`load of ${small.length} bytes`, loads[0])
  note(`load of fair, ${fair.length} bytes`, loads[1])
}
const fuelOf = (hook: PolicyHook) => {
  const counters = host.status().policies.flatMap((policy) => policy.counters[hook] ?? [])
  return counters.reduce((sum, { sampledFuel, samples }) => sum + sampledFuel / Math.max(1, samples), 0)
}

const rows = hooks.map((hook) => {
  const [ours, plain] = [of(`${hook} by policy`), of(`${hook} in JavaScript`)]
  const other = hook === 'admit' ? of('admit by Extism') : Number.NaN
  return [
    hook,
    ours.toFixed(0),
    plain.toFixed(0),
    `${(ours / plain).toFixed(2)}x`,
    of(`${hook} bare`).toFixed(0),
    `${(ours / of(`${hook} bare`)).toFixed(2)}x`,
    Number.isNaN(other) ? '' : other.toFixed(0),
    Number.isNaN(other) ? '' : `${(other / ours).toFixed(0)}x`,
    fuelOf(hook).toFixed(0),
  ]
})
const header = [
  'hook',
  'policy, ns',
  'JavaScript, ns',
  'policy/JS',
  'bare, ns',
  'policy/bare',
  'Extism, ns',
  'Extism/policy',
  'fuel',
]
console.log(formatTable(header, rows))
console.log(
  `\nAn empty call into WebAssembly with the fields of admit takes ${of('admit, empty call').toFixed(1)} ns, ` +
    `${(of('admit, empty call') / of('admit in JavaScript')).toFixed(2)}x of admit in JavaScript: no policy can be below that.`,
)
const others = [...measured.keys()].filter((name) => /^(endless|load)/.test(name))
console.log(
  `\n${formatTable(
    ['what', 'median, ms'],
    others.map((name) => [name, of(name).toFixed(3)]),
  )}`,
)
mkdirSync('test/bench/results', { recursive: true })
const results = {
  machine: describeMachine(),
  rounds,
  calls,
  medians: Object.fromEntries([...measured.keys()].map((name) => [name, of(name)])),
}
writeFileSync('test/bench/results/policy.json', `${JSON.stringify(results, undefined, 2)}\n`)
await extism.close()
await host.close()
if (!Number.isFinite(sink)) throw new Error('a decision was not a number')
