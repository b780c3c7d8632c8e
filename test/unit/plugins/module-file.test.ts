import assert from 'node:assert/strict'
import test from 'node:test'
import {
  customSection,
  listExports,
  readSections,
  withCustomSections,
  withExportedConstant,
} from '../../../plugins/abi/module-file.ts'

const bytes = (text: string) => new TextEncoder().encode(text)
/** `(module)`, and one with a memory that is exported. */
const empty = Uint8Array.of(0, 0x61, 0x73, 0x6d, 1, 0, 0, 0)
const withMemory = Uint8Array.of(...empty, 5, 3, 1, 0, 1, 7, 10, 1, 6, ...bytes('memory'), 2, 0)

test('sections that are added can be read back, are replaced and not doubled, and the module stays valid', () => {
  const once = withCustomSections(withMemory, { 'pando.manifest': bytes('{}'), other: bytes('x') })
  const twice = withCustomSections(once, { 'pando.manifest': bytes('{"name":"a"}') }, ['other'])
  assert.ok(WebAssembly.validate(twice))
  assert.deepEqual(customSection(twice, 'pando.manifest'), bytes('{"name":"a"}'))
  assert.equal(customSection(twice, 'other'), undefined)
  const [found, ...more] = WebAssembly.Module.customSections(new WebAssembly.Module(twice), 'pando.manifest')
  assert.equal(new TextDecoder().decode(found), '{"name":"a"}')
  assert.equal(more.length, 0)
})

test('the ABI version is added as a global that can be read before anything runs', () => {
  for (const module of [empty, withMemory]) {
    for (const value of [0, 63, 64, 65_536, 65_537, -1, 0x7fffffff]) {
      const marked = withExportedConstant(module, 'pando_abi', value)
      const { exports } = new WebAssembly.Instance(new WebAssembly.Module(marked))
      assert.equal((exports['pando_abi'] as WebAssembly.Global).value, value)
      assert.ok(listExports(marked).includes('pando_abi'))
      assert.equal(withExportedConstant(marked, 'pando_abi', value), marked)
    }
    const two = withExportedConstant(withExportedConstant(module, 'a', 1), 'b', 2)
    const { exports } = new WebAssembly.Instance(new WebAssembly.Module(two))
    assert.equal((exports['b'] as WebAssembly.Global).value, 2)
  }
})

test('what is cut or is no module is refused', () => {
  assert.throws(() => readSections(bytes('not wasm at all')), /not a WebAssembly module/)
  for (let length = 9; length < withMemory.length; length += 1) {
    if (length === 13) continue // the end of a section
    assert.throws(() => readSections(withMemory.subarray(0, length)), /ends in the middle/, String(length))
  }
})
