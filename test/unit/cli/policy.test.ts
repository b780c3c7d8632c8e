import assert from 'node:assert/strict'
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test, { after, before } from 'node:test'
import openWabt from 'wabt'
import { run } from '../../../core/cli/program.ts'
import type { PolicySignature } from '../../../core/contract/policy-deployment.ts'
import { createInputReader, defaultTables } from '../../../plugins/abi/json-values.ts'
import { withCustomSections, withExportedConstant } from '../../../plugins/abi/module-file.ts'
import { traceHeader, traceLine } from '../../../plugins/abi/trace.ts'
import { digestOf, verifySignature } from '../../../plugins/host/trust.ts'

let scratch = ''
before(() => {
  scratch = mkdtempSync(join(tmpdir(), 'pando-policy-cli-'))
  for (const name of ['fair', 'adaptive', 'failover-latest'])
    cpSync(`dist/plugins/builtin/${name}.wasm`, join(scratch, `${name}.wasm`))
})
after(() => rmSync(scratch, { recursive: true, force: true }))

async function pando(...args: string[]) {
  let out = ''
  let err = ''
  const code = await run(
    args,
    {
      out: (text) => {
        out += text
      },
      err: (text) => {
        err += text
      },
      isInteractive: false,
      columns: 80,
      environment: {},
      workingDirectory: scratch,
    },
    '1.2.3',
  )
  return { code, out, err, json: (): unknown => JSON.parse(out) }
}

/** A policy with one hook, from text: what no compiler of ours would write. */
async function writePolicy(name: string, admit: string, globals = ''): Promise<string> {
  const wabt = await openWabt()
  const text = `(module (memory (export "memory") 2) ${globals}
    (global $top (mut i32) (i32.const 1024))
    (func (export "pando_alloc") (param i32) (result i32)
      (global.get $top) (global.set $top (i32.add (global.get $top) (i32.and (i32.add (local.get 0) (i32.const 15)) (i32.const -16)))))
    (func (export "pando_init") (param i32 i32) (result i32) (i32.const 0))
    (func (export "pando_admit") (param $in i32) (param i32) (param $out i32) (param i32) (result i32) ${admit}))`
  const parsed = wabt.parseWat(name, text)
  const { buffer } = parsed.toBinary({})
  parsed.destroy()
  const manifest = new TextEncoder().encode(JSON.stringify({ name, version: '1.0.0', hooks: ['admit'] }))
  const marked = withExportedConstant(buffer, 'pando_abi', 65_536)
  writeFileSync(join(scratch, `${name}.wasm`), withCustomSections(marked, { 'pando.manifest': manifest }))
  return `${name}.wasm`
}

test('inspect tells what a module is, and which one a node would refuse', async () => {
  const good = await pando('policy', 'inspect', 'fair.wasm')
  assert.equal(good.code, 0)
  for (const word of ['fair 1.0.0', 'classify', 'Imports     none', 'Vectors     23 of 23 hold'])
    assert.ok(good.out.includes(word), `${word} in\n${good.out}`)
  const { digest, hooks } = (await pando('policy', 'inspect', 'fair.wasm', '--json')).json() as {
    digest: string
    hooks: string[]
  }
  assert.equal(digest, digestOf(new Uint8Array(readFileSync(join(scratch, 'fair.wasm')))))
  assert.deepEqual(hooks, ['classify', 'admit', 'plan'])

  writeFileSync(join(scratch, 'none.wasm'), 'not wasm')
  const bad = await pando('policy', 'inspect', 'none.wasm')
  assert.equal(bad.code, 7)
  assert.match(bad.out, /A node would refuse it/)
  assert.equal((await pando('policy', 'inspect', 'nowhere.wasm')).code, 2)
})

test('test asks the golden vectors and fails with the first difference', async () => {
  const good = await pando('policy', 'test', 'adaptive.wasm')
  assert.equal(good.code, 0)
  assert.match(good.out, /21 passed, 0 failed/)

  const vectors = { vectors: [{ name: 'never', hook: 'admit', expect: { verdict: 'shed' } }] }
  const wasm = new Uint8Array(readFileSync(join(scratch, 'fair.wasm')))
  const section = new TextEncoder().encode(JSON.stringify(vectors))
  writeFileSync(join(scratch, 'wrong.wasm'), withCustomSections(wasm, { 'pando.vectors': section }))
  const bad = await pando('policy', 'test', 'wrong.wasm')
  assert.equal(bad.code, 7)
  assert.match(bad.out, /FAILED.*never: verdict: expected "shed", got "admit"/)
  const none = await pando('policy', 'test', await writePolicy('bare', '(i32.const 1)'))
  assert.equal(none.code, 7, 'a policy without vectors has not passed its tests')
})

test('bench tells fuel that is the same each time', async () => {
  const rows = async () => {
    const result = await pando('policy', 'bench', 'failover-latest.wasm', '--round-ms', '1', '--json')
    const { rows } = result.json() as { rows: { fuel: number; ns: number; input: string }[] }
    assert.ok(rows.every(({ ns }) => ns > 0))
    return rows.map(({ fuel, input }) => ({ fuel, input }))
  }
  const first = await rows()
  assert.equal(first.length, 6)
  assert.ok(first.every(({ fuel }) => fuel > 10))
  assert.deepEqual(await rows(), first)
})

test('fuzz finds nothing in a built-in policy, and a trap, an endless loop, hidden state and an invalid decision elsewhere', async () => {
  const good = await pando('policy', 'fuzz', 'fair.wasm', '--rounds', '300', '--seed', '1')
  assert.equal(good.code, 0, good.out)
  const found = async (name: string, admit: string, globals?: string) => {
    const { code, out } = await pando(
      'policy',
      'fuzz',
      await writePolicy(name, admit, globals),
      '--rounds',
      '200',
      '--seed',
      '1',
    )
    assert.equal(code, 7, name)
    return out
  }
  const large = '(f64.gt (f64.load offset=72 (local.get $in)) (f64.const 1e9))'
  assert.match(await found('trap', `(if ${large} (then unreachable)) (i32.const 1)`), /admit: trap/)
  assert.match(await found('loop', `(if ${large} (then (loop (br 0)))) (i32.const 1)`), /out of fuel/)
  assert.match(
    await found('error', `(if ${large} (then (return (i32.const -3)))) (i32.const 1)`),
    /status -3/,
  )
  assert.match(await found('silent', '(i32.const 0)'), /not valid: verdict is 255/)
  const counting = `(global.set $calls (i32.add (global.get $calls) (i32.const 1)))
    (i32.store8 (local.get $out) (i32.rem_u (global.get $calls) (i32.const 2))) (i32.const 0)`
  assert.match(await found('state', counting, '(global $calls (mut i32) (i32.const 0))'), /keeps state/)
})

test('replay tells what would have changed, diff where two policies part', async () => {
  const shedLarge = await writePolicy(
    'shed-large',
    `(i32.store8 (local.get $out) (select (i32.const 2) (i32.const 0)
       (f64.gt (f64.load offset=72 (local.get $in)) (f64.const 1000)))) (i32.const 0)`,
  )
  const reader = createInputReader()
  const lines = [10, 2000, 3000].map((byteLength) => {
    const input = reader.read('admit', { byteLength })
    assert.ok(!('problem' in input))
    return traceLine('admit', input, { policy: 'fallback', reason: 0, verdict: 'admit', delayMs: 0 } as {
      policy: string
    })
  })
  writeFileSync(join(scratch, 'day.trace'), traceHeader(defaultTables) + lines.join(''))
  const { code, out } = await pando('policy', 'replay', 'day.trace', shedLarge)
  assert.equal(code, 0)
  assert.match(out, /3 asked: 1 the same, 2 changed \(66\.7 %\), 0 not decided, 0 failed/)
  assert.match(out, /2 {2}admit {2}admit +shed/)
  assert.match(out, /record 2: admit admit -> shed/)

  const same = await pando('policy', 'diff', 'fair.wasm', 'fair.wasm')
  assert.match(same.out, / 0 changed/)
  const parted = await pando('policy', 'diff', shedLarge, 'fair.wasm', '--trace', 'day.trace', '--json')
  const counts = parted.json() as { asked: number; changed: number }
  assert.deepEqual([counts.asked, counts.changed], [3, 2])

  writeFileSync(join(scratch, 'bad.trace'), 'hello\n')
  const bad = await pando('policy', 'replay', 'bad.trace', shedLarge)
  assert.equal(bad.code, 2)
  assert.match(bad.err, /line 1 of the trace/)
})

test('a signature that is made here is one that a node accepts; no key is ever replaced', async () => {
  const signed = await pando('policy', 'sign', 'fair.wasm', '--key', 'team.pem', '--new-key', '--json')
  assert.equal(signed.code, 0, signed.err)
  assert.equal(statSync(join(scratch, 'team.pem')).mode & 0o777, 0o600)
  const signature: PolicySignature = JSON.parse(readFileSync(join(scratch, 'fair.wasm.sig'), 'utf8'))
  const wasm = new Uint8Array(readFileSync(join(scratch, 'fair.wasm')))
  const trust = { keys: [{ publicKey: signature.publicKey, names: ['fair'], hooks: [] }] }
  const key = await verifySignature(digestOf(wasm), signature, trust)
  assert.equal(key?.publicKey, signature.publicKey)
  await assert.rejects(verifySignature(digestOf(wasm.slice(1)), signature, trust))

  const before = readFileSync(join(scratch, 'team.pem'))
  const again = await pando('policy', 'sign', 'fair.wasm', '--key', 'team.pem', '--new-key')
  assert.equal(again.code, 2)
  assert.deepEqual(readFileSync(join(scratch, 'team.pem')), before)
  writeFileSync(join(scratch, 'junk.pem'), 'secret words')
  const junk = await pando('policy', 'sign', 'fair.wasm', '--key', 'junk.pem')
  assert.equal(junk.code, 2)
  assert.ok(!junk.err.includes('secret words'))
})

test('init refuses a folder that is in use and a name that is none', async () => {
  mkdirSync(join(scratch, 'used'))
  writeFileSync(join(scratch, 'used/file'), '')
  const used = await pando('policy', 'init', 'used')
  assert.equal(used.code, 2)
  assert.match(used.err, /not empty/)
  const named = await pando('policy', 'init', 'Bad_Name')
  assert.equal(named.code, 2)
  assert.ok(!existsSync(join(scratch, 'Bad_Name')))
})

test('what is wrong with a project is told in the words of its file', async () => {
  const project = join(scratch, 'project')
  mkdirSync(join(project, 'assembly'), { recursive: true })
  const build = async () => pando('policy', 'build', 'project')
  assert.match((await build()).err, /no policy\.json/)
  writeFileSync(
    join(project, 'policy.json'),
    '{"name": "p", "version": "1.0.0", "entry": "assembly/index.ts", "colour": 1}',
  )
  assert.match((await build()).err, /there is no key 'colour'/)
  writeFileSync(join(project, 'policy.json'), '{"name": "p", "version": "1.0.0"}')
  cpSync('asconfig.json', join(project, 'asconfig.json'))
  writeFileSync(join(project, 'assembly/index.ts'), 'export function pando_admit(): i32 { return nothing }\n')
  const wrong = await build()
  assert.equal(wrong.code, 1)
  assert.match(wrong.err, /Cannot find name 'nothing'[\s\S]*assembly\/index\.ts/)
})
