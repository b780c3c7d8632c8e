import assert from 'node:assert/strict'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import test from 'node:test'
import { describeLayout, generateAll } from '../../../plugins/abi/generate.ts'
import { policyIdl } from '../../../plugins/abi/idl.ts'
import type { Idl } from '../../../plugins/abi/idl-language.ts'
import { placeStructs } from '../../../plugins/abi/layout.ts'

const update = process.env['UPDATE_ABI'] === '1'
const releasedPath = 'plugins/abi/released.json'

test('what is generated from the IDL is up to date', () => {
  for (const [path, text] of Object.entries(generateAll())) {
    if (update) {
      mkdirSync(dirname(path), { recursive: true })
      writeFileSync(path, text)
    }
    assert.equal(existsSync(path) && readFileSync(path, 'utf8'), text, path)
  }
})

test('what was released stays where it is: fields and values are only appended', () => {
  const now = describeLayout(placeStructs(policyIdl))
  if (update && !existsSync(releasedPath)) writeFileSync(releasedPath, `${JSON.stringify(now, null, 2)}\n`)
  const released: Readonly<Record<string, readonly string[]>> = JSON.parse(readFileSync(releasedPath, 'utf8'))
  for (const [name, lines] of Object.entries(released)) {
    assert.deepEqual(now[name]?.slice(0, lines.length), lines, name)
  }
})

test('a field that is inserted, misaligned or leaves a struct ragged is refused', () => {
  const [select] = policyIdl.hooks
  assert.ok(select)
  const withFields = (fields: readonly object[]): Idl => {
    const output = { ...select.output, fields: fields as typeof select.output.fields }
    return { ...policyIdl, hooks: [{ ...select, output }] }
  }
  const field = (type: string, name: string, since = 0) => ({ kind: 'number', type, name, doc: '', since })
  assert.throws(() => placeStructs(withFields([field('u32', 'a'), field('f64', 'b')])), /not aligned/)
  assert.throws(() => placeStructs(withFields([field('u32', 'a')])), /multiple of 8/)
  assert.throws(() => placeStructs(withFields([field('f64', 'a', 1), field('f64', 'b')])), /inserted/)
})
