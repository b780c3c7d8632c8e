// One side of the comparison, in a thread with a heap and a compiler of its own: what the engine learns of policies does not
// touch the formulas in TypeScript, and the other way round, as in a node that has only one of them.
import { parentPort, workerData } from 'node:worker_threads'
import { silentLogger } from '../../../core/contract/logger.ts'
import type { PolicyDecisions, PolicyHook } from '../../../core/contract/policy.ts'
import { realEnvironment } from '../../../core/node/environment.ts'
import { policyIdl } from '../../../plugins/abi/idl.ts'
import { defaultTables, type PolicyInputs, toJsonValue } from '../../../plugins/abi/json-values.ts'
import { nameOf } from '../../../plugins/abi/layout.ts'
import { readBuiltinPolicy } from '../../../plugins/builtin/builtin-policies.ts'
import { briefGateShapes } from '../../../plugins/host/generated/gate-shapes.ts'
import { MemoryPolicyStore } from '../../../plugins/host/memory-policy-store.ts'
import { PolicyHost } from '../../../plugins/host/policy-host.ts'
import { ServingPolicies } from '../../../plugins/host/serving.ts'
import { gateParameters } from '../../../plugins/host/wasm/gate.ts'
import { valueType } from '../../../plugins/host/wasm/instructions.ts'
import { assemble } from '../../kit/policies/assemble.ts'
import { testFallbacks } from '../../kit/policies/policy-region.ts'
import { configureFormulas, fairSettings, formulas } from './formulas.ts'
import { inputs } from './inputs.ts'

export type SideName = 'policy' | 'javascript' | 'bare' | 'floor'
export interface SideQuestion {
  readonly hook: PolicyHook
  /** 0 = what it decides, as JSON; else ns of a call, over so many. */
  readonly calls: number
}
export interface SideAnswer {
  readonly ns: number
  readonly decisions: readonly string[]
  /** Of a call, on average; 0 where there is none. */
  readonly fuel: number
}

const port = parentPort
if (port === null) throw new Error('this is a thread of the benchmark: npm run bench -- policy')
const name: SideName = workerData
let fuelOf = (_: PolicyHook): number => 0
const decisions = name === 'policy' ? await openHost() : openFormulas()

/** Settings are replaced once before anything is measured, as policies are. */
function openFormulas(): PolicyDecisions {
  const opened = name === 'bare' ? formulas : new ServingPolicies(formulas)
  for (let version = 0; version < 2; version++) {
    configureFormulas()
    for (const hook of Object.keys(inputs) as PolicyHook[]) decideAll(opened, hook)
  }
  return opened
}

/** Each policy is replaced once before it is measured: so the engine knows that it may be, as in a node that runs for a while. */
async function openHost(): Promise<PolicyDecisions> {
  const host = await PolicyHost.open({
    store: new MemoryPolicyStore(),
    clock: realEnvironment.clock,
    logger: silentLogger,
    trust: { keys: [], allowUnsigned: true },
    fallbacks: testFallbacks,
    tables: defaultTables,
  })
  for (const policy of ['adaptive', 'fair', 'failover-latest'] as const) {
    const wasm = await readBuiltinPolicy(policy)
    if (wasm === undefined) throw new Error(`the built-in policy ${policy} is not built: npm run build`)
    const config = JSON.stringify(policy === 'fair' ? fairSettings : {})
    for (const version of [`${config} `, config]) {
      const { digest } = await host.push({ wasm }, { config: version })
      await host.activate({ name: policy, digest, config: version })
      for (const hook of Object.keys(inputs) as PolicyHook[]) decideAll(host.decisions, hook)
    }
  }
  fuelOf = (hook) => {
    const counters = host.status().policies.flatMap((policy) => policy.counters[hook] ?? [])
    // The version that serves has the most samples.
    const [serving] = counters.toSorted((a, b) => b.samples - a.samples)
    return serving === undefined ? 0 : serving.sampledFuel / Math.max(1, serving.samples)
  }
  return host.decisions
}

function decideAll<H extends PolicyHook>(from: PolicyDecisions, hook: H): readonly string[] {
  return inputs[hook].map((input) => {
    const decide = from[hook] as (input: PolicyInputs[H]) => object
    const { policy, ...rest } = { policy: '', ...decide(input) }
    const names = Object.keys(rest).toSorted().concat('weight', 'reservation', 'limit', 'burst')
    return `${policy === 'fallback' ? 'fallback ' : ''}${JSON.stringify(toJsonValue(rest), names)}`
  })
}

let sink = 0
/** ns for each call; a loop for each hook, so that none spoils what the engine learns of another. */
const loops: { readonly [H in PolicyHook]: (times: number) => number } =
  name === 'floor'
    ? {
        select: () => Number.NaN,
        classify: () => Number.NaN,
        admit: openFloor('admit'),
        plan: () => Number.NaN,
        resolve: openFloor('resolve'),
      }
    : {
        select: makeLoop('select', 'decisions.select(list[index & 63]).index'),
        classify: makeLoop('classify', 'decisions.classify(list[index & 63]).classIndex'),
        admit: makeLoop('admit', 'decisions.admit(list[index & 63]).delayMs'),
        plan: makeLoop('plan', 'decisions.plan(list[index & 63]).reason'),
        resolve: makeLoop('resolve', 'decisions.resolve(list[index & 63]).reason'),
      }

function makeLoop(hook: PolicyHook, body: string): (times: number) => number {
  return timed(hook, 'decisions', `sum += ${body}`, decisions)
}

function timed(
  hook: PolicyHook,
  given: string,
  body: string,
  ...values: unknown[]
): (times: number) => number {
  const run = new Function(
    ...given.split(' '),
    'list',
    'times',
    `let sum = 0; const began = performance.now(); for (let index = 0; index < times; index++) { ${body} }
     return [((performance.now() - began) * 1e6) / times, sum]`,
  )
  return (times) => {
    const [ns, sum] = run(...values, inputs[hook], times) as [number, number]
    sink += sum
    return ns
  }
}

/**
 * What a hook cannot go below: the fields of its brief question read and handed to an empty function in WebAssembly with the
 * parameters of its gate. Nothing is stored, decided, checked or counted.
 */
function openFloor(hook: 'admit' | 'resolve'): (times: number) => number {
  const types: Readonly<Record<number, string>> = { [valueType.i64]: 'i64', [valueType.f64]: 'f64' }
  const parameters = gateParameters(briefGateShapes[hook]).map((type) => types[type] ?? 'i32')
  const { exports } = new WebAssembly.Instance(
    new WebAssembly.Module(
      assemble(`(module (func (export "empty") (param ${parameters.join(' ')}) (result i32) i32.const 0))`),
    ),
  )
  const spec = policyIdl.hooks.find((each) => each.name === hook)
  const fieldsOf = (fields: readonly { name: string }[], from: string) =>
    fields.flatMap((field) => (spec?.brief.includes(field.name) ? [`${from}.${field.name}`] : []))
  const values = [
    ...fieldsOf(
      [...policyIdl.header.fields, ...(spec?.input.fields ?? [])].map((field) => ({ name: nameOf(field) })),
      'input',
    ),
    ...(hook === 'resolve' ? [0, 1] : []).flatMap((at) =>
      fieldsOf(spec?.items?.fields ?? [], `input.versions[${at}]`),
    ),
  ]
  if (values.length !== parameters.length - 2)
    throw new Error(`the gate of ${hook} has other parameters than its question`)
  const call = `const input = list[index & 63]; sum += empty(8, 1024, ${values.join(', ')})`
  return timed(hook, 'empty', call, exports['empty'])
}

port.on('message', ({ hook, calls }: SideQuestion) => {
  const answer: SideAnswer = {
    ns: calls === 0 ? 0 : loops[hook](calls),
    decisions: calls === 0 && name !== 'floor' ? decideAll(decisions, hook) : [],
    fuel: calls === 0 ? fuelOf(hook) : 0,
  }
  if (!Number.isFinite(sink)) throw new Error('a decision was not a number')
  port.postMessage(answer)
})
port.postMessage('ready')
