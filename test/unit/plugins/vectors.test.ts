import assert from 'node:assert/strict'
import test from 'node:test'
import { createInputReader, toJsonValue } from '../../../plugins/abi/json-values.ts'
import { TraceReader, traceHeader, traceLine } from '../../../plugins/abi/trace.ts'
import { differenceFrom, initConfiguration, readVectors } from '../../../plugins/abi/vectors.ts'

const bulk = { name: 'big', hook: 'classify', input: { byteLength: 1e9 }, expect: { classIndex: 'bulk' } }

test('a vector says what matters and has defaults for the rest', () => {
  const file = readVectors({ settings: { limit: 1 }, vectors: [bulk] })
  assert.ok(!('problem' in file))
  const [vector] = file.vectors
  assert.deepEqual(vector?.expect, { status: 'decided', fields: { classIndex: 1 } })
  assert.deepEqual(vector?.settings, { limit: 1 })
  assert.equal(vector?.input.requestHash, 0n)
  assert.equal(
    initConfiguration({ a: 1 }, { classes: ['x'], tenants: [''], buckets: [''] }),
    '{"settings":{"a":1},"classes":["x"],"tenants":[""],"buckets":[""]}',
  )
})

test('what is wrong with a vector is told with its name and field', () => {
  const problem = (vector: object) => {
    const file = readVectors({ vectors: [{ ...bulk, ...vector }] })
    return 'problem' in file ? file.problem : ''
  }
  assert.match(problem({ hook: 'decide' }), /vector 'big': hook: not one of select,/)
  assert.match(problem({ input: { bytes: 1 } }), /vector 'big': input: bytes: there is no such field/)
  assert.match(problem({ expect: { classIndex: 'gold' } }), /there is no class 'gold'/)
  assert.match(problem({ expect: {} }), /expect names no field/)
  assert.match(problem({ expect: { status: 'maybe' } }), /expect\.status/)
  assert.match(problem({ hook: 'admit', input: { tenant: 'nobody' } }), /there is no tenant 'nobody'/)
  assert.match(problem({ hook: 'select', input: { candidates: [] } }), /candidates/)
})

test('differences name the field, what was expected and what came', () => {
  const expected = { status: 'decided', fields: { verdict: 'shed', classes: [{ weight: 2 }] } } as const
  assert.equal(
    differenceFrom(expected, 'decided', { verdict: 'shed', reason: 9, classes: [{ weight: 2 }] }),
    undefined,
  )
  assert.equal(
    differenceFrom(expected, 'decided', { verdict: 'admit', classes: [] }),
    'verdict: expected "shed", got "admit"',
  )
  assert.match(
    differenceFrom(expected, 'decided', { verdict: 'shed', classes: [{ weight: 1 }] }) ?? '',
    /classes\[0\]\.weight/,
  )
  assert.equal(differenceFrom({ status: 'abstain' }, 'decided', {}), 'expected abstain, got decided')
})

test('a trace gives back what was recorded', () => {
  const input = createInputReader().read('resolve', {
    requestHash: '18446744073709551615',
    versions: [
      { region: 1, hlc: '99999999999999999', etag: 'd41d', metadata: { colour: 'grün' } },
      { region: 2, hlc: 7, isDeleteMarker: true },
    ],
  })
  assert.ok(!('problem' in input))
  const decision = {
    policy: 'a@1.0.0',
    reason: 3,
    outcome: 'merge',
    metadata: new TextEncoder().encode('{"a":1}'),
  } as const
  const reader = new TraceReader()
  const tables = { classes: ['one'], tenants: ['', 'acme'], buckets: [''] }
  assert.equal(reader.read(traceHeader(tables).trimEnd()), undefined)
  assert.deepEqual(reader.tables, tables)
  const record = reader.read(traceLine('resolve', input, decision).trimEnd())
  assert.deepEqual(record?.input, input)
  assert.deepEqual(record?.decision, { reason: 3, outcome: 'merge', metadata: { a: 1 } })
  assert.equal(record?.policy, 'a@1.0.0')
  assert.throws(() => reader.read('{"hook":"resolve"'), /line 3 of the trace: not JSON/)
  assert.throws(() => new TraceReader().read('{}'), /line 1 of the trace: this is not the header/)
  assert.deepEqual(toJsonValue({ etag: Uint8Array.of(1, 255) }), { etag: '01ff' })

  // A node asks several hooks with one object.
  const shared = createInputReader().read('admit', { utilisation: 0.5 })
  assert.ok(!('problem' in shared))
  const asked = { ...shared, key: 'of another hook', attributes: new Uint32Array(1) }
  const line = traceLine('admit', asked, { policy: 'fallback' }).trimEnd()
  assert.deepEqual(reader.read(line)?.input, shared)
})
