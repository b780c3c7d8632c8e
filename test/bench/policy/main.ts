// What a decision of a policy costs: the built-in policies through the host (fuel, output checks, counters) against the same
// formulas in JavaScript and against Extism, in interleaved rounds of one run; how soon an endless loop ends; how long a load
// takes. Usage: npm run bench -- policy [--rounds N] [--calls N]
//
// The baseline of the ratio is what a node has in a policy's place: a decision written in TypeScript, behind the same door. So the
// formulas stand as fallbacks of a `ServingPolicies` that has no policy: the same call, the same inputs read from the same objects,
// one result object, a counter, and settings that are read and not folded into the code, since they can be replaced as policies can.
// They are not checked, timed or traced there, as the host does not do that for its own either.
// `bare` is the formula called by itself, which the engine inlines into the loop: no node has that, but nothing is hidden. Each side
// has a thread of its own (side.ts), and asks for the same 64 questions in turn; the ratio is the median of the rounds' ratios.
import { once } from 'node:events'
import { mkdirSync, writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { Worker } from 'node:worker_threads'
import type { PolicyHook } from '../../../core/contract/policy.ts'
import type { PolicyInputs } from '../../../plugins/abi/json-values.ts'
import { readBuiltinPolicy } from '../../../plugins/builtin/builtin-policies.ts'
import { examineModule } from '../../../plugins/host/examine-module.ts'
import { createGuest, gatesOf } from '../../../plugins/host/guest-instance.ts'
import { exportRefuel, meterModule } from '../../../plugins/host/wasm/meter-module.ts'
import { parseModule } from '../../../plugins/host/wasm/parse-module.ts'
import { assemble, policyModule } from '../../kit/policies/assemble.ts'
import { describeMachine, formatTable, median } from '../machine.ts'
import { openExtism } from './extism-baseline.ts'
import { inputs } from './inputs.ts'
import type { SideAnswer, SideName, SideQuestion } from './side.ts'

const { values: options } = parseArgs({
  // Many short rounds: what else the machine does falls into a few of them, and the median does not see those.
  options: { rounds: { type: 'string', default: '300' }, calls: { type: 'string', default: '4000' } },
})
const rounds = Number(options.rounds)
const calls = Number(options.calls)

const sides: Readonly<Record<SideName, Worker>> = {
  policy: await openSide('policy'),
  javascript: await openSide('javascript'),
  bare: await openSide('bare'),
  floor: await openSide('floor'),
}
async function openSide(name: SideName): Promise<Worker> {
  const side = new Worker(new URL('./side.js', import.meta.url), { workerData: name })
  await once(side, 'message')
  return side
}
async function ask(name: SideName, question: SideQuestion): Promise<SideAnswer> {
  const answer = once(sides[name], 'message')
  sides[name].postMessage(question)
  const [message] = await answer
  return message
}

/** A ratio says something only about things that do the same. */
async function checkAlike(hook: PolicyHook): Promise<void> {
  const { decisions: ours } = await ask('policy', { hook, calls: 0 })
  const { decisions: plain } = await ask('javascript', { hook, calls: 0 })
  for (const [at, decision] of ours.entries()) {
    if (decision !== plain[at])
      throw new Error(`${hook} decides ${decision}, its formula in JavaScript ${plain[at]}`)
  }
}

let sink = 0
const extism = await openExtism()
async function extismNs(times: number): Promise<number> {
  const began = performance.now()
  for (let index = 0; index < times; index++)
    sink += await extism.admit(inputs.admit[index & 63] as PolicyInputs['admit'])
  return ((performance.now() - began) * 1e6) / times
}

const hooks = ['select', 'classify', 'admit', 'plan', 'resolve'] as const
for (const hook of hooks) await checkAlike(hook)
const measured = new Map<string, number[]>()
const note = (name: string, value: number) => void measured.set(name, [...(measured.get(name) ?? []), value])
const of = (name: string) => median(measured.get(name) ?? [])
for (let round = -50; round < rounds; round++) {
  for (const hook of hooks) {
    const { ns: bare } = await ask('bare', { hook, calls })
    const { ns: plain } = await ask('javascript', { hook, calls })
    const { ns: ours } = await ask('policy', { hook, calls })
    const { ns: floor } = await ask('floor', { hook, calls })
    // The first rounds are for the compiler.
    if (round < 0) continue
    note(`${hook} bare`, bare)
    note(`${hook} in JavaScript`, plain)
    note(`${hook} by policy`, ours)
    if (!Number.isNaN(floor)) note(`${hook}, empty call`, floor)
    note(`${hook} ratio`, ours / plain)
  }
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
const fuels: number[] = []
for (const hook of hooks) fuels.push((await ask('policy', { hook, calls: 0 })).fuel)

const floorOf = (hook: PolicyHook) =>
  measured.has(`${hook}, empty call`) ? of(`${hook}, empty call`).toFixed(1) : ''
const rows = hooks.map((hook, at) => {
  const [ours, plain] = [of(`${hook} by policy`), of(`${hook} in JavaScript`)]
  const other = hook === 'admit' ? of('admit by Extism') : Number.NaN
  return [
    hook,
    ours.toFixed(0),
    plain.toFixed(0),
    `${of(`${hook} ratio`).toFixed(2)}x`,
    of(`${hook} bare`).toFixed(0),
    `${(ours / of(`${hook} bare`)).toFixed(2)}x`,
    Number.isNaN(other) ? '' : other.toFixed(0),
    Number.isNaN(other) ? '' : `${(other / ours).toFixed(0)}x`,
    (fuels[at] ?? 0).toFixed(0),
    floorOf(hook),
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
  'empty call, ns',
]
console.log(formatTable(header, rows))
console.log(
  '\nAn empty call: into WebAssembly, with the fields of the brief question. No policy can be below that.',
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
for (const side of Object.values(sides)) await side.terminate()
if (!Number.isFinite(sink)) throw new Error('a decision was not a number')
