import assert from 'node:assert/strict'
import { test } from 'node:test'
import { defaultTables } from '../../../plugins/abi/json-values.ts'
import { readBuiltinPolicy } from '../../../plugins/builtin/builtin-policies.ts'
import { PandoAdmin } from '../../../sdk/admin/index.ts'
import {
  checkVectors,
  comparePolicies,
  describeComparison,
  openPolicy,
  readTrace,
  replayTrace,
} from '../../../sdk/policy/index.ts'
import { startNode } from '../../kit/node-process.ts'
import { admitAll, policyModule, shedAll } from '../../kit/policies/assemble.ts'
import { openS3Client } from '../../kit/s3-client.ts'

const policyOf = (admit: string) => policyModule({ name: 'demo', version: '1.0.0', hooks: { admit } })

async function fair(): Promise<Uint8Array> {
  const wasm = await readBuiltinPolicy('fair')
  assert.ok(wasm !== undefined, 'fair is not built: npm run setup')
  return wasm
}

test('a policy is asked as a golden vector asks it; what is wrong with the question or the settings is said', async () => {
  const wasm = await fair()
  const policy = openPolicy(wasm, { settings: { bulkBytes: 1000 } })
  assert.deepEqual([...policy.hooks].toSorted(), ['admit', 'classify', 'plan'])
  const large = policy.ask('classify', { operation: 'write', byteLength: 1000 })
  assert.equal(large.status, 'decided')
  assert.equal(large.decision?.['classIndex'], defaultTables.classes.indexOf('bulk'))
  assert.equal(policy.ask('classify', { operation: 'write', byteLength: 999 }).status, 'abstain')
  assert.equal(policy.ask('classify', { operation: 'write', byteLength: 1000 }).fuel, large.fuel)
  assert.throws(() => policy.ask('select'), /does not export pando_select/)
  assert.throws(() => policy.ask('admit', { utilisation: 'much' }), /utilisation/)
  assert.throws(() => openPolicy(wasm, { settings: { bulkBytes: -1 } }), /bulkBytes/)
  assert.throws(() => openPolicy(new Uint8Array([1, 2, 3])), /not a valid WebAssembly module/)
  const outcomes = checkVectors(wasm)
  assert.ok(outcomes.length >= 5)
  assert.deepEqual(
    outcomes.filter(({ difference }) => difference !== undefined),
    [],
  )
})

test('a trap is an answer, and after it the policy begins anew', () => {
  const trapsWhenAskedAgain = `
    (if (i32.load (i32.const 8)) (then (unreachable)))
    (i32.store (i32.const 8) (i32.const 1))
    ${admitAll}`
  const policy = openPolicy(policyOf(trapsWhenAskedAgain))
  const answers = [1, 2, 3, 4].map(() => policy.ask('admit'))
  assert.deepEqual(
    answers.map(({ status }) => status),
    ['decided', 'failed', 'decided', 'failed'],
  )
  assert.match(answers[1]?.problem ?? '', /^trap: /)
})

test('what a node has decided is replayed: the same policy says the same, another one is told apart', async () => {
  await using node = await startNode({ config: { store: { backend: 'memory', capacity: '1GiB' } } })
  const { endpoint, accessKey, secretKey } = node
  const client = openS3Client({ endpoint, accessKey, secretKey })
  const admin = new PandoAdmin({
    endpoint: node.consoleUrl,
    credentials: { accessKeyId: accessKey, secretAccessKey: secretKey },
  })
  const fairWasm = await fair()
  const [admits, sheds] = [policyOf(admitAll), policyOf(shedAll)]
  await admin.policies.push(admits)
  await admin.policies.activate({ name: 'demo' })
  assert.equal((await client.send({ method: 'PUT', bucket: 'traced' })).status, 200)
  for (let turn = 0; turn < 400; turn++) await client.send({ method: 'GET', bucket: 'traced', key: 'none' })
  client.close()

  const trace = readTrace(await admin.policies.record())
  const asked = trace.filter(({ hook, policy }) => hook === 'admit' && policy === 'demo@1.0.0')
  assert.ok(asked.decisions.length >= 3, `${asked.decisions.length} of ${trace.decisions.length} decisions`)
  assert.ok(trace.decisions.length > asked.decisions.length && trace.tables.classes.includes('interactive'))
  const count = asked.decisions.length
  const same = replayTrace(admits, asked)
  assert.deepEqual([same.asked, same.same, same.changed, same.failed], [count, count, 0, 0])
  const other = replayTrace(sheds, asked, { examples: 2 })
  assert.deepEqual([other.asked, other.changed, other.examples.length], [count, count, 2])
  assert.deepEqual(
    other.transitions.map(({ hook, count: times }) => [hook, times]),
    [['admit', count]],
  )
  assert.match(
    describeComparison(other),
    new RegExp(`^${count} of ${count} decisions changed[\\s\\S]*admit -> shed`),
  )
  assert.equal(comparePolicies(admits, sheds, asked).changed, count)
  assert.equal(comparePolicies(admits, admits, asked).changed, 0)
  // A hook that it has not is left to others, and settings reach it.
  assert.equal(
    replayTrace(admits, trace).notDecided,
    trace.decisions.filter(({ hook }) => hook !== 'admit').length,
  )
  assert.throws(() => replayTrace(fairWasm, trace, { settings: { bulkBytes: 'many' } }), /bulkBytes/)
})

test('a trace that was cut off or is none is refused with its line', () => {
  const header = '{"pandoTrace":1,"classes":["a"],"tenants":[""],"buckets":[""]}\n'
  assert.equal(readTrace('').decisions.length, 0)
  assert.deepEqual(readTrace(header).tables.classes, ['a'])
  assert.throws(() => readTrace('{"some":"log"}\n'), /line 1 of the trace: this is not the header/)
  assert.throws(() => readTrace(`${header}{"hook":"admit","pol`), /line 2 of the trace: not JSON/)
  const made = { tables: defaultTables, decisions: [], filter: () => readTrace('') }
  assert.throws(() => replayTrace(policyOf(admitAll), made), TypeError)
})
