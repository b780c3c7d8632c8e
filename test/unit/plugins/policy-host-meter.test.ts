import assert from 'node:assert/strict'
import test from 'node:test'
import { policyModuleBytesMost } from '../../../core/contract/policy-deployment.ts'
import { examineModule } from '../../../plugins/host/examine-module.ts'
import type { GateShape } from '../../../plugins/host/wasm/gate.ts'
import { moduleLimits } from '../../../plugins/host/wasm/limits.ts'
import { exportFuel, exportRefuel, gateName, meterModule } from '../../../plugins/host/wasm/meter-module.ts'
import { ModuleRefusal, type RefusalKind } from '../../../plugins/host/wasm/module-refusal.ts'
import { parseModule } from '../../../plugins/host/wasm/parse-module.ts'
import { admitAll, assemble, policyModule } from '../../kit/policies/assemble.ts'

type Call = (...values: number[]) => number

/** The module as it is after the pass, with its exports as functions. */
function metered(module: Uint8Array, startFuel = 0) {
  assert.ok(WebAssembly.validate(module), 'the module of the test is not valid')
  const { bytes } = meterModule(parseModule(module), { startFuel })
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(bytes), { pando1: { log() {} } })
  const call = (name: string) => exports[name] as Call
  return { call, refuel: call(exportRefuel), fuel: call(exportFuel), exports }
}

/** The trap that ends a call without fuel; a recursion may find the end of the stack first. */
function assertOutOfFuel(run: () => unknown, isRecursion = false): void {
  assert.throws(
    run,
    (reason) =>
      (reason instanceof WebAssembly.RuntimeError && /unreachable/.test(reason.message)) ||
      (isRecursion && reason instanceof RangeError),
  )
}

function refusal(module: Uint8Array): ModuleRefusal {
  try {
    meterModule(examineModule(module).parsed)
  } catch (reason) {
    assert.ok(reason instanceof ModuleRefusal, String(reason))
    return reason
  }
  throw new assert.AssertionError({ message: 'the module was let in' })
}

test('the limit of a module is the same for the log that carries it and for the host that runs it', () => {
  assert.equal(moduleLimits.moduleBytes, policyModuleBytesMost)
})

test('P1: an invalid module that the rewriting would make valid, and that refuels itself, is refused', () => {
  // It has two globals, pando_abi and $heap, and writes a third: the one that the pass appends.
  const attack = policyModule({
    hooks: { admit: `i32.const 2000000000 global.set 2 ${admitAll}` },
  })
  assert.equal(WebAssembly.validate(attack), false)
  const rewritten = meterModule(parseModule(attack)).bytes
  assert.equal(WebAssembly.validate(rewritten), true, 'the attack is no attack any more: write another')
  assert.equal(refusal(attack).kind, 'invalid')
  assert.match(refusal(attack).message, /global/i)
})

test('P2: every endless loop in a function is out of fuel within its budget', () => {
  const spins: Readonly<Record<string, string>> = {
    loop: '(loop $l br $l)',
    'loop that looks busy':
      '(local i32) (loop $l local.get 0 i32.const 1 i32.add local.set 0 local.get 0 br_if $l br $l)',
    'nested loops': '(loop $a (loop $b br $b) br $a)',
    'loop left and entered by br_table': '(loop $l (block $x (br_table $l $l $x (i32.const 1))) br $l)',
    recursion: 'call $spin',
    'recursion by table': '(call_indirect (type $nothing) (i32.const 0))',
    'two functions that call each other': 'call $other',
    'memory.fill': '(loop $l (memory.fill (i32.const 0) (i32.const 1) (i32.const 65536)) br $l)',
    'memory.copy': '(loop $l (memory.copy (i32.const 0) (i32.const 8) (i32.const 60000)) br $l)',
    'memory.init': '(loop $l (memory.init $d (i32.const 0) (i32.const 0) (i32.const 4)) br $l)',
    'memory.grow of nothing': '(loop $l (drop (memory.grow (i32.const 0))) br $l)',
    'table.grow of nothing': '(loop $l (drop (table.grow $t (ref.null func) (i32.const 0))) br $l)',
    'table.fill': '(loop $l (table.fill $t (i32.const 0) (ref.null func) (i32.const 2)) br $l)',
  }
  for (const [name, body] of Object.entries(spins)) {
    const { call, refuel } = metered(
      assemble(`(module
        (type $nothing (func))
        (memory 1)
        (table $t 2 funcref)
        (elem (i32.const 0) $spin)
        (data $d "abcd")
        (func $other call $spin)
        (func $spin (export "spin") ${body})
        (func (export "add") (param i32 i32) (result i32) local.get 0 local.get 1 i32.add))`),
    )
    refuel(100_000)
    const before = performance.now()
    assertOutOfFuel(() => call('spin')(), /recursion|each other/.test(name))
    // Not a measurement: without fuel it would never come back, and the runner's timeout would end it.
    assert.ok(performance.now() - before < 5_000, name)
    refuel(100)
    assert.equal(call('add')(2, 3), 5, name)
  }
})

test('P2: an endless start function is out of fuel', () => {
  const module = assemble('(module (func $s (loop $l br $l)) (start $s))')
  assertOutOfFuel(() => metered(module, 100_000))
})

test('fuel counts what was executed: the entry, each iteration, bulk bytes', () => {
  const { call, refuel, fuel } = metered(
    assemble(`(module (memory 1)
      (func (export "nothing"))
      (func (export "count") (param i32)
        (loop $l (br_if $l (local.tee 0 (i32.sub (local.get 0) (i32.const 1))))))
      (func (export "fill") (param i32) (memory.fill (i32.const 0) (i32.const 1) (local.get 0))))`),
  )
  const spent = (name: string, ...values: number[]) => {
    refuel(1_000_000)
    call(name)(...values)
    return 1_000_000 - fuel()
  }
  assert.equal(spent('nothing'), 1)
  assert.equal(spent('count', 1_000) - spent('count', 999), spent('count', 10) - spent('count', 9))
  assert.ok(spent('count', 10) - spent('count', 9) >= 5)
  assert.equal(spent('fill', 8_000) - spent('fill', 0), 1_000)
  assert.equal(spent('count', 77), spent('count', 77))
})

test('a call pays for the locals that it makes the engine zero', () => {
  const { call, refuel, fuel } = metered(
    assemble(`(module
      (func $wide (export "wide") (local ${'v128 '.repeat(4_000)}) (drop (v128.any_true (local.get 3_999))))
      (func (export "narrow") (local v128) (drop (v128.any_true (local.get 0))))
      (func (export "spin") (loop $l call $wide br $l)))`),
  )
  const spent = (name: string) => {
    refuel(1_000_000)
    call(name)()
    return 1_000_000 - fuel()
  }
  assert.ok(spent('wide') - spent('narrow') >= 1_900)
  refuel(20_000)
  assertOutOfFuel(() => call('spin')())
})

test('no length and no growth wraps the tank round', () => {
  for (const most of [0xffff_ffff, 0x8000_0000, 0x7fff_ffff]) {
    const { call, refuel, fuel } = metered(
      assemble(`(module (memory 1 2) (table $t 1 funcref)
        (func (export "fill") (param i32) (memory.fill (i32.const 0) (i32.const 1) (local.get 0)))
        (func (export "tableFill") (param i32) (table.fill $t (i32.const 0) (ref.null func) (local.get 0)))
        (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
        (func (export "tableGrow") (param i32) (result i32) (table.grow $t (ref.null func) (local.get 0))))`),
    )
    for (const name of ['fill', 'tableFill']) {
      refuel(1_000)
      assertOutOfFuel(() => call(name)(most))
      assert.ok(fuel() < 0, `${name} ${most}`)
    }
    for (const name of ['grow', 'tableGrow']) {
      refuel(10_000_000)
      assert.equal(call(name)(most), -1)
      assert.ok(fuel() > 0 && fuel() < 10_000_000, `${name} ${most}`)
      refuel(1_000)
      assertOutOfFuel(() => call(name)(most))
      assert.ok(fuel() < 0, `${name} ${most}`)
    }
  }
})

test('memory and tables grow to the clamp and not beyond, whatever the module declares', () => {
  const { call, refuel } = metered(
    assemble(`(module (memory 1 65536) (table $t 1 funcref)
      (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
      (func (export "tableGrow") (param i32) (result i32) (table.grow $t (ref.null func) (local.get 0))))`),
  )
  const full = (name: string, by: number) => {
    refuel(100_000_000)
    return call(name)(by)
  }
  assert.equal(full('grow', moduleLimits.memoryPages), -1)
  assert.equal(full('grow', moduleLimits.memoryPages - 1), 1)
  assert.equal(full('grow', 1), -1)
  assert.equal(full('tableGrow', moduleLimits.tableEntries), -1)
  assert.equal(full('tableGrow', moduleLimits.tableEntries - 1), 1)
})

test('a gate fills the tank, stores its parameters, presets the output and calls the hook', () => {
  // Answers 0 where what it reads is what a gate with the numbers below has written.
  const looks = `(i32.store8 offset=1 (local.get $out) (i32.load8_u (local.get $out)))
    (i32.or (i32.or
      (i32.ne (i32.load16_u (local.get $in)) (i32.const 7)) (i32.ne (i32.load8_u offset=2 (local.get $in)) (i32.const 200)))
      (i32.or (i64.ne (i64.load offset=8 (local.get $in)) (i64.const -2)) (i32.or
        (f64.ne (f64.load offset=16 (local.get $in)) (f64.const -0.5))
        (i32.or (i32.ne (local.get $inLen) (i32.const 24)) (i32.ne (local.get $outLen) (i32.const 8))))))`
  const module = policyModule({ hooks: { admit: looks, classify: '(loop $l br $l) i32.const 0' } })
  const shape = (fuel: number): GateShape => ({
    fuel,
    outputBytes: 8,
    input: [
      ['u16', 0, 7],
      ['u8', 2],
      ['u64', 8],
      ['f64', 16],
    ],
    output: [['u8', 0, 255]],
  })
  const gates = ['pando_admit', 'pando_classify'].map((hook) => ({
    name: gateName(hook),
    hook,
    shape: shape(5_000),
  }))
  const { bytes } = meterModule(parseModule(module), { gates })
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(bytes), {})
  type Gate = (input: number, bytes: number, output: number, a: number, b: bigint, c: number) => number
  const gate = (hook: string) => exports[gateName(hook)] as Gate
  const view = new DataView((exports['memory'] as WebAssembly.Memory).buffer)
  assert.equal(gate('pando_admit')(64, 24, 128, 0xfc8, 0xffff_ffff_ffff_fffen, -0.5), 0)
  assert.equal(view.getUint16(128, true), 0xffff)
  assert.equal(view.getUint8(67), 0)
  assert.ok((exports[exportFuel] as Call)() > 4_900)
  assertOutOfFuel(() => gate('pando_classify')(64, 24, 128, 0, 0n, 0))
})

test('traps name the function: the name section is kept', () => {
  const { call, refuel } = metered(assemble('(module (func $divide_by_hand (export "f") unreachable))'))
  refuel(100)
  assert.throws(call('f'), (reason) => reason instanceof Error && /divide_by_hand/.test(reason.stack ?? ''))
})

/** A policy with a function of this code, which the assembler has not read. */
function overwriteNops(length: number, code: readonly number[]): Uint8Array {
  const module = policyModule({ fields: `(func ${'nop '.repeat(length)})` })
  const at = Buffer.from(module).indexOf(Buffer.alloc(length, 0x01))
  module.set(code, at)
  return module
}

const refused: readonly (readonly [string, RefusalKind, RegExp, Uint8Array])[] = [
  [
    'an unknown import',
    'unknown-import',
    /env\.now/,
    policyModule({ imports: '(import "env" "now" (func (result f64)))' }),
  ],
  [
    "AssemblyScript's abort",
    'unknown-import',
    /env\.abort.*--use abort=/,
    policyModule({ imports: '(import "env" "abort" (func (param i32 i32 i32 i32)))' }),
  ],
  [
    'a function of the right module with another name',
    'unknown-import',
    /pando1\.read_clock/,
    policyModule({ imports: '(import "pando1" "read_clock" (func))' }),
  ],
  [
    'the log of another major version',
    'unknown-import',
    /pando2\.log/,
    policyModule({ imports: '(import "pando2" "log" (func (param i32 i32 i32)))' }),
  ],
  [
    'the log with another type',
    'import-type',
    /pando1\.log/,
    policyModule({ imports: '(import "pando1" "log" (func (param i64)))' }),
  ],
  [
    'WASI',
    'wasi',
    /wasi_snapshot_preview1\.fd_write/,
    policyModule({
      imports: '(import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32)))',
    }),
  ],
  [
    'an imported memory',
    'imported-memory',
    /env\.memory/,
    policyModule({ imports: '(import "env" "memory" (memory 1))', memory: '(export "memory" (memory 0))' }),
  ],
  [
    'an imported table',
    'imported-table',
    /env\.t/,
    policyModule({ imports: '(import "env" "t" (table 1 funcref))' }),
  ],
  [
    'an imported global',
    'imported-global',
    /env\.g/,
    policyModule({ imports: '(import "env" "g" (global i32))' }),
  ],
  [
    'threads',
    'threads',
    /atomics/,
    policyModule({ hooks: { admit: '(drop (i32.atomic.load (local.get $in))) i32.const 0' } }),
  ],
  [
    'a shared memory',
    'shared-memory',
    /shared memory/,
    policyModule({ memory: '(memory (export "memory") 8 8 shared)' }),
  ],
  [
    'exceptions',
    'exceptions',
    /exception/,
    policyModule({ hooks: { admit: '(block (try (do nop) (catch_all nop))) i32.const 0' } }),
  ],
  ['an exception tag', 'exceptions', /tag/, policyModule({ fields: '(tag $e (param i32))' })],
  ['tail calls', 'tail-calls', /tail calls/, policyModule({ fields: '(func $f (return_call $f))' })],
  ['a 64-bit memory', 'memory64', /memory64/, policyModule({ memory: '(memory (export "memory") i64 8)' })],
  ['a second memory', 'second-memory', /2 memories/, policyModule({ fields: '(memory 1)' })],
  [
    'relaxed SIMD',
    'relaxed-simd',
    /relaxed SIMD/,
    policyModule({
      fields: '(func (param v128 v128) (result v128) (i8x16.relaxed_swizzle (local.get 0) (local.get 1)))',
    }),
  ],
  [
    'a reserved export',
    'reserved-export',
    /__pando_refuel/,
    policyModule({ fields: '(func (export "__pando_refuel") (param i32))' }),
  ],
  ['a start function', 'start-function', /start function/, policyModule({ fields: '(func $s) (start $s)' })],
  [
    'a memory bomb at the start',
    'memory-size',
    /4 MiB/,
    policyModule({ memory: '(memory (export "memory") 65)' }),
  ],
  ['a table bomb at the start', 'table-size', /1000000/, policyModule({ fields: '(table 1000000 funcref)' })],
  ['too many tables', 'limit', /tables/, policyModule({ fields: '(table 1 funcref)'.repeat(9) })],
  [
    'too many functions',
    'limit',
    /functions/,
    policyModule({ fields: '(func)'.repeat(moduleLimits.functions + 1) }),
  ],
  [
    'too large a body',
    'limit',
    /body of function/,
    policyModule({ fields: `(func ${'nop '.repeat(moduleLimits.bodyBytes + 1)})` }),
  ],
  [
    'too many locals',
    'limit',
    /locals/,
    policyModule({ fields: `(func (local ${'i32 '.repeat(moduleLimits.locals + 1)}))` }),
  ],
  [
    'too large a br_table',
    'limit',
    /br_table/,
    policyModule({
      fields: `(func (br_table ${'0 '.repeat(moduleLimits.branchTableEntries + 2)} (i32.const 0)))`,
    }),
  ],
  [
    'too deep nesting',
    'limit',
    /nests/,
    // Written over a run of nops: the assembler takes ages for such a text.
    overwriteNops(3 * (moduleLimits.nesting + 1), [
      ...Array(moduleLimits.nesting + 1)
        .fill([0x02, 0x40])
        .flat(),
      ...Array(moduleLimits.nesting + 1).fill(0x0b),
    ]),
  ],
  [
    'too much data',
    'limit',
    /data segments/,
    policyModule({
      memory: `(memory (export "memory") 16) (data (i32.const 0) "${'x'.repeat(moduleLimits.dataBytes + 1)}")`,
    }),
  ],
  ['a module that is too large', 'module-size', /bytes/, new Uint8Array(moduleLimits.moduleBytes + 1)],
  ['something else', 'invalid', /not a valid/, new TextEncoder().encode('#!/bin/sh\n')],
  ['nothing', 'invalid', /not a valid/, new Uint8Array()],
  ['no memory', 'export-missing', /memory/, policyModule({ memory: '' })],
  ['a memory that is not exported', 'export-missing', /memory/, policyModule({ memory: '(memory 1)' })],
  ['another major version', 'abi', /2\.0/, policyModule({ abi: 0x20000 })],
  [
    'a hook of another type',
    'export-type',
    /pando_admit.*i32, i32, i32, i32/,
    policyModule({ fields: '(func (export "pando_admit") (param i64))', manifest: { hooks: ['admit'] } }),
  ],
  [
    'a hook that the manifest does not name',
    'manifest',
    /admit/,
    policyModule({ hooks: { admit: admitAll }, manifest: { hooks: [] } }),
  ],
  [
    'a hook that the module does not have',
    'manifest',
    /plan/,
    policyModule({ manifest: { hooks: ['plan'] } }),
  ],
  ['a name that is none', 'manifest', /name/, policyModule({ name: 'Ünsinn' })],
  ['a host that is newer', 'abi', /1\.9/, policyModule({ manifest: { minHost: '1.9' } })],
  [
    'no manifest',
    'manifest',
    /pando\.manifest/,
    assemble('(module (memory (export "memory") 1) (global (export "pando_abi") i32 (i32.const 65536)))'),
  ],
]

for (const [name, kind, message, module] of refused) {
  test(`P13: ${name} is refused, and the message names it`, () => {
    const found = refusal(module)
    assert.equal(found.kind, kind, found.message)
    assert.match(found.message, message)
  })
}

test('P13: each kind of refusal has a message of its own', () => {
  const messages = new Map<string, string>()
  for (const [name, , , module] of refused) {
    const { message } = refusal(module)
    if (name !== 'nothing' && name !== 'something else') {
      assert.equal(messages.get(message), undefined, `${name} and ${messages.get(message)} have one message`)
    }
    messages.set(message, name)
  }
})

test('what a policy may use is let in: SIMD, bulk memory, references, multi-value, a start function that is declared', () => {
  const module = policyModule({
    imports: '(import "pando1" "log" (func $log (param i32 i32 i32)))',
    manifest: { start: true },
    fields: `
      (table $t 1 funcref) (elem declare func $two) (data $d "data")
      (func $s) (start $s)
      (func $two (result i32 i32) i32.const 1 i32.const 2)
      (func (param i32) (result i32) (block (param) (result i32) (call $two) drop))
      (func (result i32) (loop (result i32) i32.const 1))
      (func (param f64) (result i64) (i64.trunc_sat_f64_s (local.get 0)))
      (func (param externref) (result i32) (ref.is_null (local.get 0)))
      (func (result funcref) (select (result funcref) (ref.func $two) (ref.null func) (i32.const 1)))
      (func (memory.init $d (i32.const 0) (i32.const 0) (i32.const 2)) (data.drop $d))
      (func (param v128) (result i32)
        (i8x16.extract_lane_u 3 (i8x16.shuffle 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 31
          (i32x4.add (local.get 0) (v128.const i32x4 1 2 3 4)) (v128.load8_lane offset=4 2 (i32.const 0) (local.get 0)))))`,
  })
  const examined = examineModule(module)
  const { bytes } = meterModule(examined.parsed)
  assert.ok(WebAssembly.validate(bytes))
  assert.deepEqual(examined.imports, ['pando1.log'])
})

test('a hook of tomorrow is a warning, not a refusal', () => {
  const module = policyModule({
    hooks: { admit: admitAll, teleport: 'i32.const 0' },
  })
  const { hooks, warnings } = examineModule(module)
  assert.deepEqual(hooks, ['admit'])
  assert.ok(warnings.some((warning) => warning.includes('teleport')))
})
