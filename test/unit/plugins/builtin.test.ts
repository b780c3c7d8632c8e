import assert from 'node:assert/strict'
import test from 'node:test'
import type { PolicyHook } from '../../../core/contract/policy.ts'
import { createFallbackDecisions } from '../../../core/qos/fallback-decisions.ts'
import { abiBounds, abiNames } from '../../../plugins/abi/idl.ts'
import { createInputReader, defaultTables, type PolicyInputs } from '../../../plugins/abi/json-values.ts'
import { customSection } from '../../../plugins/abi/module-file.ts'
import { initConfiguration, parseVectors } from '../../../plugins/abi/vectors.ts'
import {
  type BuiltinPolicy,
  builtinPolicies,
  readBuiltinPolicy,
} from '../../../plugins/builtin/builtin-policies.ts'
import { meteredPolicy } from '../../../plugins/kit/metered-policy.ts'
import { type OpenOptions, PolicyInstance } from '../../../plugins/kit/open-policy.ts'
import { runVectors } from '../../../plugins/kit/run-vectors.ts'
import { randomInput, seededNumbers } from '../../../plugins/kit/sample-inputs.ts'

async function read(name: BuiltinPolicy): Promise<Uint8Array<ArrayBuffer>> {
  const wasm = await readBuiltinPolicy(name)
  assert.ok(wasm, `${name} is not built: npm run setup`)
  return wasm
}

async function open(name: BuiltinPolicy, options: OpenOptions = {}): Promise<PolicyInstance> {
  return new PolicyInstance(meteredPolicy(await read(name)), options)
}

function input<H extends PolicyHook>(hook: H, value: object): PolicyInputs[H] {
  const read = createInputReader().read(hook, value)
  if ('problem' in read) throw new Error(read.problem)
  return read
}

const names = Object.keys(builtinPolicies) as BuiltinPolicy[]

for (const name of names) {
  const hooks: readonly PolicyHook[] = builtinPolicies[name]
  test(`${name}: every golden vector that it carries holds`, async () => {
    const wasm = await read(name)
    const file = parseVectors(customSection(wasm, abiNames.vectorsSection) ?? new Uint8Array())
    assert.ok(!('problem' in file), 'problem' in file ? file.problem : '')
    const results = runVectors(meteredPolicy(wasm), file)
    assert.ok(results.length >= 5)
    assert.deepEqual(
      results.filter(({ difference }) => difference !== undefined),
      [],
    )
    for (const hook of hooks)
      assert.ok(
        results.some((result) => result.hook === hook),
        `no vector asks ${hook}`,
      )
  })

  test(`${name}: its manifest says what it exports, it imports nothing it does not need, has no start function and is small`, async () => {
    const wasm = await read(name)
    const module = new WebAssembly.Module(wasm)
    const manifest = JSON.parse(new TextDecoder().decode(customSection(wasm, abiNames.manifestSection)))
    assert.deepEqual(manifest.hooks, hooks)
    assert.equal(manifest.start, undefined)
    assert.deepEqual(WebAssembly.Module.imports(module), [])
    const exports = WebAssembly.Module.exports(module).map((entry) => entry.name)
    assert.deepEqual(
      exports.toSorted(),
      [
        'memory',
        'pando_abi',
        'pando_alloc',
        'pando_error_len',
        'pando_error_ptr',
        'pando_init',
        ...hooks.map((hook) => `pando_${hook}`),
        ...(optional[name] ?? []),
      ].toSorted(),
    )
    assert.ok(wasm.length < 16_384, `${wasm.length} bytes`)
  })
}

/** What makes them cheaper to ask. */
const optional: Readonly<Record<string, readonly string[]>> = {
  fair: ['pando_admit_brief'],
  'failover-latest': ['pando_resolve_brief'],
  'tenant-caps': ['pando_wants'],
}

test('the largest inputs stay within the fuel of a call', async () => {
  const candidate = { transport: 'quic', distance: 4, loss: 0.1, bytesPerSecond: 1e9, state: 'degraded' }
  const adaptive = await open('adaptive')
  const select = adaptive.ask(
    'select',
    input('select', { byteLength: 1e6, currentIndex: 31, candidates: Array(32).fill(candidate) }),
  )
  assert.equal(select.status, 'decided', select.problem)

  // Every prefix is as long as may be and differs in its last byte from the key.
  const prefixes = Object.fromEntries(
    Array.from({ length: 8 }, (_, index) => [`${'k'.repeat(127)}${index}`, 'bulk']),
  )
  const attributes = Object.fromEntries(Array.from({ length: 64 }, (_, index) => [`x-team=${index}`, 'bulk']))
  const fair = await open('fair', { settings: { prefixes, attributes, ordinary: 'interactive' } })
  const others = Array.from({ length: 8 }, (_, index) => `x-team=${1000 + index}`)
  const classify = fair.ask('classify', input('classify', { key: 'k'.repeat(1000), attributes: others }))
  assert.equal(classify.status, 'decided', classify.problem)
  assert.equal(classify.decision?.['reason'], 4)
  const classes = Array(64).fill({ classIndex: 1, p99Ms: 9, sloMs: 1, reservation: 10, limit: 5 })
  const plan = fair.ask('plan', input('plan', { classes }))
  assert.equal(plan.status, 'decided', plan.problem)

  const etag = 'ab'.repeat(64)
  const version = { region: 1, hlc: 1, etag, metadata: { a: 'x'.repeat(30_000) } }
  const latest = await open('failover-latest')
  const resolve = latest.ask('resolve', input('resolve', { versions: [version, version] }))
  assert.equal(resolve.status, 'decided', resolve.problem)
})

test('1,600 tenants, 100 of them with caps, are read within the fuel of pando_init', async () => {
  const tenants = ['', ...Array.from({ length: 1_600 }, (_, index) => `tenant-${index}`)]
  const caps = Object.fromEntries(
    tenants.slice(1, 100).map((name) => [name, { maxBytes: 1, readOnly: true }]),
  )
  const tables = { classes: ['interactive'], tenants, buckets: [''] }
  const byteLength = initConfiguration({ tenants: caps }, tables).length
  assert.ok(byteLength < abiBounds.configBytes, String(byteLength))
  const policy = await open('tenant-caps', { settings: { tenants: caps }, tables })
  const last = policy.ask('admit', { ...input('admit', { byteLength: 2 }), tenant: 99 })
  assert.equal(last.decision?.['reason'], 1, last.problem)
  assert.equal(policy.ask('admit', { ...input('admit', { byteLength: 2 }), tenant: 100 }).status, 'abstain')
})

test('a configuration that is not valid is refused in words, and names that need escapes do no harm', async () => {
  await assert.rejects(open('adaptive', { settings: { gain: 'x' } }), /gain is not a number in its range/)
  const settings = { prefixes: { 'a"b\\/': 'bulk', 'grün/': 'bulk' } }
  const fair = await open('fair', { settings })
  const decided = (key: string) => fair.ask('classify', input('classify', { key })).decision?.['classIndex']
  assert.equal(decided('grün/x'), 1)
  assert.equal(decided('gru'), undefined)
})

test('fair plans what the fallback plans while every target is met, and sheds no request that the fallback lets in then', async () => {
  const fair = await open('fair')
  const fallback = createFallbackDecisions(() => 0)
  const random = seededNumbers(11)
  for (let round = 0; round < 300; round += 1) {
    const drawn = randomInput('plan', random, defaultTables)
    const asked = { ...drawn, classes: drawn.classes.map((each) => ({ ...each, p99Ms: 0 })) }
    const heart = (classes: unknown) =>
      (classes as { weight: number; reservation: number; limit: number }[]).map(
        ({ weight, reservation, limit }) => ({
          weight,
          reservation,
          limit,
        }),
      )
    const planned = fair.ask('plan', asked)
    assert.deepEqual(
      heart(planned.decision?.['classes']),
      heart(fallback.plan(asked).classes),
      planned.problem,
    )

    const request = {
      ...randomInput('admit', random, defaultTables),
      p99Ms: 0,
      p50Ms: 0,
      deadlineMs: 0,
      tokens: 1e9,
    }
    assert.equal(fallback.admit(request).verdict, 'admit')
    assert.equal(fair.ask('admit', request).decision?.['verdict'], 'admit')
  }
})
