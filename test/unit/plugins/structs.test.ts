import assert from 'node:assert/strict'
import test from 'node:test'
import fc from 'fast-check'
import type { PolicyHook } from '../../../core/contract/policy.ts'
import { GuestMemory } from '../../../plugins/abi/guest-memory.ts'
import { policyIdl } from '../../../plugins/abi/idl.ts'
import type { FieldSpec } from '../../../plugins/abi/idl-language.ts'
import { createInputReader, defaultTables, type PolicyInputs } from '../../../plugins/abi/json-values.ts'
import { type PlacedField, placeStructs } from '../../../plugins/abi/layout.ts'
import * as structs from '../../../plugins/host/generated/policy-structs.ts'
import { randomInput, seededNumbers } from '../../../plugins/kit/sample-inputs.ts'

const layout = placeStructs(policyIdl)
const hooks: readonly PolicyHook[] = ['select', 'classify', 'admit', 'plan', 'resolve']
const inputAt = 1024
const outputAt = 131_072

function openMemory(): GuestMemory {
  const memory = new WebAssembly.Memory({ initial: 4, maximum: 8 })
  return new GuestMemory(memory, {
    input: { address: inputAt, byteLength: 66_000 },
    output: { address: outputAt, byteLength: 66_000 },
  })
}

function write<H extends PolicyHook>(hook: H, memory: GuestMemory, input: PolicyInputs[H]): number {
  const writers = {
    select: structs.writeSelectInput,
    classify: structs.writeClassifyInput,
    admit: structs.writeAdmitInput,
    plan: structs.writePlanInput,
    resolve: structs.writeResolveInput,
  }
  return (writers[hook] as (memory: GuestMemory, input: PolicyInputs[H]) => number)(memory, input)
}

/** Reads one field by the layout, through a DataView: nothing in common with the generated code but the IDL. */
function readField({ spec, offset }: PlacedField, view: DataView, base: number): unknown {
  const at = base + offset
  const scalar = (from: number): number | bigint => {
    switch (spec.type) {
      case 'u8':
        return view.getUint8(from)
      case 'u16':
        return view.getUint16(from, true)
      case 'u32':
        return view.getUint32(from, true)
      case 'i32':
        return view.getInt32(from, true)
      case 'f64':
        return view.getFloat64(from, true)
      case 'u64':
        return view.getBigUint64(from, true)
    }
  }
  switch (spec.kind) {
    case 'enum':
      return policyIdl.enums[spec.values]?.values[Number(scalar(at))]
    case 'flag':
      return scalar(at) === 1
    case 'array':
      return Uint32Array.from({ length: spec.length }, (_, index) => view.getUint32(at + 4 * index, true))
    case 'text':
      return new Uint8Array(view.buffer, at, spec.length)
    case 'blob':
      return new Uint8Array(view.buffer, inputAt + view.getUint32(at, true), view.getUint32(at + 4, true))
    default:
      return scalar(at)
  }
}

const crosses = ({ kind }: FieldSpec) => ['number', 'bigint', 'flag', 'enum', 'blob'].includes(kind)

for (const hook of hooks) {
  test(`${hook}: what the host writes is what the layout says, field for field`, () => {
    const placed = layout.hooks.find(({ spec }) => spec.name === hook)
    assert.ok(placed)
    const random = seededNumbers(7)
    const memory = openMemory()
    for (let round = 0; round < 300; round += 1) {
      const input = randomInput(hook, random, defaultTables)
      const byteLength = write(hook, memory, input)
      assert.ok(byteLength > 0 && byteLength <= placed.inputBytes)
      const view = new DataView(memory.memory.buffer)
      const items: readonly object[] = placed.items ? Reflect.get(input, placed.items.spec.property) : []
      const framing = Object.fromEntries(
        layout.header.fields
          .filter(({ spec }) => spec.kind === 'framing')
          .map((field) => [field.spec.name, readField(field, view, inputAt)]),
      )
      assert.deepEqual(framing, {
        structVersion: policyIdl.minor,
        headerLen: placed.input.byteLength,
        itemLen: placed.items?.byteLength ?? 0,
        itemCount: items.length,
        flags: 0,
        outHeaderLen: placed.output.byteLength,
        outItemLen: placed.outputItems?.byteLength ?? 0,
      })
      for (const field of [...layout.header.fields, ...placed.input.fields].filter(({ spec }) =>
        crosses(spec),
      ))
        assert.deepEqual(
          readField(field, view, inputAt),
          Reflect.get(input, field.spec.name),
          field.spec.name,
        )
      for (const [index, item] of items.entries()) {
        const base: number = inputAt + placed.input.byteLength + index * (placed.items?.byteLength ?? 0)
        for (const field of placed.items?.fields.filter(({ spec }) => crosses(spec)) ?? [])
          assert.deepEqual(readField(field, view, base), Reflect.get(item, field.spec.name), field.spec.name)
      }
    }
  })
}

test('a key crosses as whole characters of UTF-8, and the rest of it is told', () => {
  const memory = openMemory()
  const classify = layout.hooks.find(({ spec }) => spec.name === 'classify')
  const offset = (name: string) => classify?.input.fields.find(({ spec }) => spec.name === name)?.offset ?? 0
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 200 }), (key) => {
      const input = createInputReader().read('classify', { key })
      assert.ok(!('problem' in input))
      structs.writeClassifyInput(memory, input)
      const length = memory.u8[inputAt + offset('keyLength')] ?? 0
      const from = inputAt + offset('keyPrefix')
      const prefix = new TextDecoder('utf-8', { fatal: true }).decode(memory.u8.subarray(from, from + length))
      const whole = Buffer.from(key).toString()
      assert.ok(whole.startsWith(prefix))
      assert.equal(memory.u8[inputAt + offset('keyIsLonger')], prefix.length < whole.length ? 1 : 0)
      assert.ok(prefix.length === whole.length || length > 124)
    }),
  )
})

test('P7: whatever bytes a guest writes, a decision that is read is one that may be used', () => {
  const memory = openMemory()
  const select = structs.createSelectResult()
  const admit = structs.createAdmitResult()
  const plan = structs.createPlanResult()
  const classify = structs.createClassifyResult()
  const resolve = structs.createResolveResult()
  const interesting = fc.oneof(
    fc.uint8Array({ minLength: 96, maxLength: 96 }),
    fc
      .array(fc.constantFrom(0, 1, 2, 3, 4, 64, 255), { minLength: 96, maxLength: 96 })
      .map((bytes) => Uint8Array.from(bytes)),
    fc
      .array(fc.oneof(fc.double(), fc.constantFrom(0, 1, -1, Number.NaN, Number.POSITIVE_INFINITY, 1e7)), {
        minLength: 12,
        maxLength: 12,
      })
      .map((numbers) => new Uint8Array(Float64Array.from(numbers).buffer)),
  )
  let used = 0
  fc.assert(
    fc.property(interesting, (bytes) => {
      memory.u8.set(bytes, outputAt)
      if (structs.readSelectDecision(memory, 3, select) === undefined) {
        used += 1
        assert.ok(
          select.index >= 0 && select.index < 3 && select.fallbackIndex >= -1 && select.fallbackIndex < 3,
        )
        assert.ok(select.parallel >= 1 && select.parallel <= 64 && select.chunkBytes >= 4096)
      }
      if (structs.readClassifyDecision(memory, 5, classify) === undefined) {
        used += 1
        assert.ok(classify.classIndex >= 0 && classify.classIndex < 5)
      }
      if (structs.readAdmitDecision(memory, admit) === undefined) {
        used += 1
        assert.ok(['admit', 'delay', 'shed'].includes(admit.verdict))
        assert.ok(admit.delayMs >= 0 && admit.delayMs <= 3_600_000)
      }
      if (structs.readPlanDecision(memory, 2, plan) === undefined) {
        used += 1
        for (const { weight, reservation, limit, burst } of plan.classes) {
          assert.ok(weight > 0 && Number.isFinite(weight) && Number.isFinite(burst) && burst >= 0)
          assert.ok(reservation >= 0 && (limit === 0 || limit >= reservation) && Number.isFinite(limit))
        }
      }
      if (structs.readResolveDecision(memory, resolve) === undefined) {
        used += 1
        assert.ok(resolve.outcome !== 'merge' || resolve.metadata !== undefined)
      }
    }),
    { numRuns: 2000 },
  )
  assert.ok(used > 100, `only ${used} decisions were read at all`)
})

test('what a guest does not write is not a decision', () => {
  const memory = openMemory()
  for (const hook of ['select', 'classify', 'admit', 'plan', 'resolve'] as const) {
    const input = randomInput(hook, seededNumbers(3), defaultTables)
    // What an earlier call has left there must not be taken for the answer of this one.
    memory.u8.fill(0, outputAt, outputAt + 64)
    write(hook, memory, input)
    const items = Reflect.get(input, 'classes') ?? Reflect.get(input, 'candidates') ?? []
    const problems = {
      select: () => structs.readSelectDecision(memory, items.length, structs.createSelectResult()),
      classify: () => structs.readClassifyDecision(memory, 5, structs.createClassifyResult()),
      admit: () => structs.readAdmitDecision(memory, structs.createAdmitResult()),
      plan: () => structs.readPlanDecision(memory, items.length, structs.createPlanResult()),
      resolve: () => structs.readResolveDecision(memory, structs.createResolveResult()),
    }
    assert.notEqual(problems[hook](), undefined, hook)
  }
})

test('P6: after the guest has grown its memory the same regions are written and read', () => {
  const memory = openMemory()
  const input = createInputReader().read('admit', { byteLength: 77 })
  assert.ok(!('problem' in input))
  structs.writeAdmitInput(memory, input)
  memory.memory.grow(1)
  assert.equal(memory.u8.length, 0, 'the old view is detached')
  structs.writeAdmitInput(memory, input)
  assert.equal(new DataView(memory.memory.buffer).getFloat64(inputAt + 72, true), 77)
  memory.memory.grow(1)
  new DataView(memory.memory.buffer).setUint8(outputAt, 2)
  const result = structs.createAdmitResult()
  assert.equal(structs.readAdmitDecision(memory, result), undefined)
  assert.equal(result.verdict, 'shed')
})

test('regions that are not aligned, not inside the memory or over each other are refused', () => {
  const memory = new WebAssembly.Memory({ initial: 1 })
  const open = (input: number, output: number) =>
    new GuestMemory(memory, {
      input: { address: input, byteLength: 256 },
      output: { address: output, byteLength: 256 },
    })
  assert.throws(() => open(1028, 2048), /not at a multiple of 8/)
  assert.throws(() => open(-8, 2048), /not at a multiple of 8/)
  assert.throws(() => open(1024, 65_400), /ends behind the memory/)
  assert.throws(() => open(1024, 1200), /overlap/)
  open(1024, 1280)
})

test('inputs that do not fit are not written: more items, a longer ETag, more metadata', () => {
  const memory = openMemory()
  const read = <H extends PolicyHook>(hook: H, value: object): PolicyInputs[H] => {
    const input = createInputReader().read(hook, value)
    if ('problem' in input) throw new Error(input.problem)
    return input
  }
  const select = read('select', { candidates: [{ transport: 'tcp' }] })
  const many = Array.from({ length: 33 }, () => select.candidates).flat()
  assert.equal(structs.writeSelectInput(memory, { ...select, candidates: many }), -1)
  const version = { region: 1, hlc: 1, metadata: { a: 'x'.repeat(40_000) } }
  const resolve = read('resolve', { versions: [version, version] })
  assert.equal(structs.writeResolveInput(memory, resolve), -1)
  const [first, second] = read('resolve', {
    versions: [
      { region: 1, hlc: 1 },
      { region: 2, hlc: 1 },
    ],
  }).versions
  const long = { ...first, etag: new Uint8Array(65) }
  assert.equal(structs.writeResolveInput(memory, { ...resolve, versions: [long, second] }), -1)
})
