import assert from 'node:assert/strict'
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test, { after, before } from 'node:test'
import fc from 'fast-check'
import { generateAll } from '../../../plugins/abi/generate.ts'
import { policyIdl } from '../../../plugins/abi/idl.ts'
import type { FieldSpec, Idl, StructSpec } from '../../../plugins/abi/idl-language.ts'
import { createInputReader, type PolicyInputs } from '../../../plugins/abi/json-values.ts'
import { buildPolicy } from '../../../plugins/kit/build-policy.ts'
import { debugPolicy, type MeteredPolicy, meteredPolicy } from '../../../plugins/kit/metered-policy.ts'
import { PolicyInstance } from '../../../plugins/kit/open-policy.ts'
import { readProject } from '../../../plugins/kit/policy-project.ts'

let folder = ''
before(() => {
  folder = mkdtempSync(join(tmpdir(), 'pando-pdk-'))
})
after(() => rmSync(folder, { recursive: true, force: true }))

const exports = `export { pando_abi, pando_alloc, pando_error_len, pando_error_ptr } from '../pdk/assembly'\n`

async function compile(
  name: string,
  source: string,
  options: { structs?: string; debug?: boolean } = {},
): Promise<Uint8Array<ArrayBuffer>> {
  const project = join(folder, name)
  mkdirSync(join(project, 'assembly'), { recursive: true })
  cpSync('plugins/pdk/assembly', join(project, 'pdk/assembly'), { recursive: true })
  if (options.structs !== undefined) writeFileSync(join(project, 'pdk/assembly/structs.ts'), options.structs)
  cpSync('asconfig.json', join(project, 'asconfig.json'))
  writeFileSync(join(project, 'policy.json'), JSON.stringify({ name, version: '1.0.0' }))
  writeFileSync(join(project, 'assembly/index.ts'), exports + source)
  const { wasm } = await buildPolicy(readProject(project), { debug: options.debug === true })
  return new Uint8Array(wasm)
}

/** Calls any export with a text, over an instance's own allocator. */
function withText(policy: MeteredPolicy): (name: string, text: string, ...more: number[]) => number {
  const instance = policy.instantiate({ pando1: { log: () => undefined } })
  const found = (name: string) => instance.exports[name] as (...args: number[]) => number
  policy.refuel(instance, 1e9)
  const region = found('pando_alloc')(65_536)
  const { buffer } = instance.exports['memory'] as WebAssembly.Memory
  return (name, text, ...more) => {
    const bytes = new TextEncoder().encode(text)
    const memory = new Uint8Array(buffer)
    // What lies behind the text must not matter.
    memory.fill(0x22, region, region + bytes.length + 64)
    memory.set(bytes, region)
    policy.refuel(instance, 1e8)
    return found(name)(region, bytes.length, ...more)
  }
}

const jsonHarness = `
import { Json, JsonKind, parseJson } from '../pdk/assembly'
export function pando_init(config: usize, length: i32): i32 { return 0 }
export function valid(at: usize, length: i32): i32 { return parseJson(at, length).exists ? 1 : 0 }
/** Goes over everything and adds up what it finds: [numbers, strings' bytes, members and items, depth-weighted kinds]. */
let sum: f64 = 0
let bytes: i32 = 0
let members: i32 = 0
function visit(value: Json): void {
  const kind = value.kind
  if (kind == JsonKind.Number) sum += value.number()
  if (kind == JsonKind.Boolean && value.boolean()) members += 1000
  if (kind == JsonKind.String) bytes += value.byteLength
  if (kind == JsonKind.List) {
    for (let item = value.first(); item.exists; item = item.next()) { members += 1; visit(item) }
  }
  if (kind == JsonKind.Object) {
    for (let key = value.firstKey(); key.exists; key = key.nextKey()) { members += 1; bytes += key.byteLength; visit(key.value()) }
  }
}
export function digest(at: usize, length: i32, what: i32): f64 {
  sum = 0
  bytes = 0
  members = 0
  visit(parseJson(at, length))
  return what == 0 ? sum : what == 1 ? <f64>bytes : <f64>members
}
export function numberOf(at: usize, length: i32): f64 { return parseJson(at, length).number() }
`

test('the scanner of the kit agrees with JSON.parse about what is JSON and what is in it', async () => {
  const call = withText(meteredPolicy(await compile('json', jsonHarness)))

  const document = fc.json({ maxDepth: 6 })
  fc.assert(
    fc.property(document, (text) => {
      assert.equal(call('valid', text), 1, text)
      const expected = digest(JSON.parse(text))
      assert.equal(call('digest', text, 1), expected.bytes, text)
      assert.equal(call('digest', text, 2), expected.members, text)
    }),
    { numRuns: 300 },
  )
  // One character changed, left out or added: whatever JSON.parse refuses is refused, but for what we are lenient about.
  fc.assert(
    fc.property(
      document,
      fc.nat(),
      fc.constantFrom('', '{', '}', '[', ']', ',', ':', '"', '\\', '0', '-', 'x', '\n'),
      (text, at, change) => {
        const where = at % (text.length + 1)
        const bent = text.slice(0, where) + change + text.slice(where + 1)
        const isValid = parses(bent)
        const accepted = call('valid', bent) === 1
        if (isValid) assert.ok(accepted, `refused: ${bent}`)
        else if (accepted) assert.match(bent, /\\|(^|[^0-9.eE+-])-?0\d|\n|\t/, `accepted: ${bent}`)
      },
    ),
    { numRuns: 2000 },
  )
  for (const number of [
    0, 1, -1, 0.005, 0.1, 1e-9, 123456.789, 5e12, 1e15, 0.3, 2.5e-7, 1e22, 9007199254740991,
  ])
    assert.equal(call('numberOf', JSON.stringify(number)), number)
  assert.equal(call('valid', '['.repeat(15) + ']'.repeat(15)), 1)
  assert.equal(call('valid', '['.repeat(40) + ']'.repeat(40)), 0, 'depth is bounded')
  assert.equal(call('valid', ''), 0)
})

function parses(text: string): boolean {
  try {
    JSON.parse(text)
    return true
  } catch {
    return false
  }
}

/** Bytes of strings as JSON.stringify writes them, which is how fc.json has written them. */
function digest(value: unknown): { bytes: number; members: number } {
  const inside = (text: string) => Buffer.byteLength(JSON.stringify(text)) - 2
  if (typeof value === 'string') return { bytes: inside(value), members: 0 }
  if (value === true) return { bytes: 0, members: 1000 }
  if (typeof value !== 'object' || value === null) return { bytes: 0, members: 0 }
  const entries = Array.isArray(value) ? value.map((item) => ['', item] as const) : Object.entries(value)
  return entries.reduce(
    (sum, [key, item]) => {
      const { bytes, members } = digest(item)
      return { bytes: sum.bytes + bytes + inside(key), members: sum.members + members + 1 }
    },
    { bytes: 0, members: 0 },
  )
}

const appended = (struct: StructSpec, ...names: string[]): StructSpec => ({
  ...struct,
  fields: [
    ...struct.fields,
    ...names.map((name): FieldSpec => ({ kind: 'number', type: 'f64', name, doc: 'appended', since: 1 })),
  ],
})

/** What this ABI could look like one minor version later. */
const newer: Idl = {
  ...policyIdl,
  minor: 1,
  hooks: policyIdl.hooks.map((hook) => {
    if (hook.name !== 'plan' || hook.items === undefined || hook.outputItems === undefined) return hook
    return {
      ...hook,
      input: appended(hook.input, 'temperature', 'pressure'),
      items: { ...hook.items, ...appended(hook.items, 'errors') },
      output: appended(hook.output, 'confidence'),
      outputItems: { ...hook.outputItems, ...appended(hook.outputItems, 'decay') },
    }
  }),
}

const plan: PolicyInputs['plan'] = (() => {
  const classes = [
    { classIndex: 0, weight: 3, p99Ms: 7 },
    { classIndex: 1, weight: 5, p99Ms: 9 },
  ]
  const input = createInputReader().read('plan', { classes })
  if ('problem' in input) throw new Error(input.problem)
  return input
})()

test('P8: a policy that knows newer fields runs on this host: they read as 0, and writing them does nothing', async () => {
  const wasm = await compile(
    'newer',
    `
import { PlanDecision, PlanInput } from '../pdk/assembly'
export function pando_init(config: usize, length: i32): i32 { return 0 }
export function pando_plan(input: PlanInput, _a: i32, decision: PlanDecision, _b: i32): i32 {
  for (let index = 0; index < input.count; index++) {
    const item = input.at(index)
    const out = decision.at(input, index)
    out.weight = item.weight + input.temperature + input.pressure + item.errors(input)
    out.burst = item.p99Ms
    out.setDecay(input, 12345)
  }
  decision.setConfidence(input, 54321)
  decision.reason = 4
  return 0
}`,
    { structs: generateAll(newer)['plugins/pdk/assembly/structs.ts'] ?? '' },
  )
  const { decision, problem } = new PolicyInstance(meteredPolicy(wasm)).ask('plan', plan)
  assert.equal(problem, undefined)
  assert.deepEqual(decision, {
    reason: 4,
    classes: [
      { weight: 3, reservation: 0, limit: 0, burst: 7 },
      { weight: 5, reservation: 0, limit: 0, burst: 9 },
    ],
  })
})

test('P8: a policy of today runs on a host that has appended fields: it steps by the lengths in the header', async () => {
  const wasm = await compile(
    'older',
    `
import { PlanDecision, PlanInput } from '../pdk/assembly'
export function pando_init(config: usize, length: i32): i32 { return 0 }
export function pando_plan(input: PlanInput, _a: i32, decision: PlanDecision, _b: i32): i32 {
  for (let index = 0; index < input.count; index++) {
    const out = decision.at(input, index)
    out.weight = input.at(index).weight
    out.burst = input.at(index).p99Ms
  }
  return 0
}`,
  )
  const policy = meteredPolicy(wasm)
  const instance = policy.instantiate({ pando1: { log: () => undefined } })
  const found = (name: string) => instance.exports[name] as (...args: number[]) => number
  policy.refuel(instance, 1e6)
  const [input, output] = [found('pando_alloc')(1024), found('pando_alloc')(1024)]
  const view = new DataView((instance.exports['memory'] as WebAssembly.Memory).buffer)
  // Header 64 + 2 new fields, items 80 + 1, output 8 + 1, its items 32 + 1: by hand, as that host would.
  const [headerLen, itemLen, outHeaderLen, outItemLen] = [80, 88, 16, 40] as const
  for (const [at, value] of [
    [0, 1],
    [2, headerLen],
    [4, itemLen],
    [6, 2],
    [48, outHeaderLen],
    [50, outItemLen],
  ] as const)
    view.setUint16(input + at, value, true)
  for (const index of [0, 1]) {
    view.setFloat64(input + headerLen + index * itemLen + 40, 7 + 2 * index, true)
    view.setFloat64(input + headerLen + index * itemLen + 56, 3 + 2 * index, true)
  }
  assert.equal(found('pando_plan')(input, headerLen + 2 * itemLen, output, outHeaderLen + 2 * outItemLen), 0)
  for (const index of [0, 1]) {
    assert.equal(view.getFloat64(output + outHeaderLen + index * outItemLen, true), 3 + 2 * index)
    assert.equal(view.getFloat64(output + outHeaderLen + index * outItemLen + 24, true), 7 + 2 * index)
  }
})

test('a debug build tells the message and the line of a failed assertion; a host would refuse it', async () => {
  const source = `
import { AdmitDecision, AdmitInput } from '../pdk/assembly'
export function pando_init(config: usize, length: i32): i32 { return 0 }
export function pando_admit(input: AdmitInput, _a: i32, decision: AdmitDecision, _b: i32): i32 {
  assert(input.byteLength < 10, 'ten is too many')
  return 1
}`
  const wasm = await compile('asserting', source, { debug: true })
  const read = createInputReader().read('admit', { byteLength: 10 })
  assert.ok(!('problem' in read))
  const { status, problem } = new PolicyInstance(await debugPolicy(wasm)).ask('admit', read)
  assert.equal(status, 'failed')
  assert.match(problem ?? '', /ten is too many.* assembly\/index\.ts:6/)
  assert.throws(() => meteredPolicy(wasm), /env/)
})

test('the same sources give the same bytes, wherever they lie', async () => {
  const source = `
import { AdmitDecision, AdmitInput } from '../pdk/assembly'
export function pando_init(config: usize, length: i32): i32 { return 0 }
export function pando_admit(input: AdmitInput, _a: i32, decision: AdmitDecision, _b: i32): i32 { return 1 }`
  const first = await compile('same', source)
  const home = folder
  folder = mkdtempSync(join(tmpdir(), 'pando-elsewhere-'))
  try {
    assert.deepEqual(await compile('same', source), first)
  } finally {
    rmSync(folder, { recursive: true, force: true })
    folder = home
  }
})
