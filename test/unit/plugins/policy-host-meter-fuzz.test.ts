import assert from 'node:assert/strict'
import test from 'node:test'
import fc from 'fast-check'
import { exportFuel, exportRefuel, meterModule } from '../../../plugins/host/wasm/meter-module.ts'
import { ModuleRefusal } from '../../../plugins/host/wasm/module-refusal.ts'
import { parseModule } from '../../../plugins/host/wasm/parse-module.ts'
import { assemble, policyModule } from '../../kit/policies/assemble.ts'
import { moduleOf, randomFunction } from '../../kit/policies/random-module.ts'

/** What one call shows: result or trap, the global, and all memory. */
function observe(module: WebAssembly.Module, calls: readonly (readonly [number, number])[]) {
  const { exports } = new WebAssembly.Instance(module)
  const refuel = exports[exportRefuel] as ((fuel: number) => void) | undefined
  const run = exports['run'] as (a: number, b: number) => number
  const memory = exports['memory'] as WebAssembly.Memory
  const seen = calls.map(([a, b]) => {
    refuel?.(2_000_000_000)
    try {
      return run(a, b)
    } catch (reason) {
      return reason instanceof Error ? reason.message : reason
    }
  })
  return {
    seen,
    global: (exports['g'] as WebAssembly.Global).value,
    memory: Buffer.from(memory.buffer).toString('latin1'),
  }
}

test('P17: a rewritten module does what the original does, result for result and byte for byte', () => {
  const numbers = fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 })
  let traps = 0
  let results = 0
  fc.assert(
    fc.property(
      randomFunction(),
      fc.array(fc.tuple(numbers, numbers), { minLength: 1, maxLength: 8 }),
      (body, calls) => {
        const original = assemble(moduleOf(body))
        assert.ok(WebAssembly.validate(original), body)
        const rewritten = meterModule(parseModule(original)).bytes
        const before = observe(new WebAssembly.Module(original), calls)
        const after = observe(new WebAssembly.Module(rewritten), calls)
        assert.ok(before.memory === after.memory, 'memory differs')
        assert.deepEqual({ ...after, memory: '' }, { ...before, memory: '' })
        for (const each of before.seen) {
          if (typeof each === 'number') results++
          else traps++
        }
      },
    ),
    { numRuns: 300 },
  )
  assert.ok(
    results > 100 && traps > 10,
    `${results} results and ${traps} traps: the generator has become dull`,
  )
})

test('P17: a hook whose code stands in its gate does what the hook does, to the last unit of fuel', () => {
  const numbers = fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 })
  let traps = 0
  let results = 0
  fc.assert(
    fc.property(
      randomFunction(),
      fc.oneof(fc.integer({ min: 1, max: 400 }), fc.constant(1_000_000)),
      fc.array(numbers, { minLength: 1, maxLength: 4 }),
      numbers,
      (body, fuel, calls, b) => {
        const text = moduleOf(body).replace(
          '(func (export "run") (type $binary)',
          `(func (export "run") ${hookType}`,
        )
        // A constant, so that no local of the gate stands where the hook has its own of the same value.
        const shape = { fuel, inputBytes: b, outputBytes: 16, input: [], output: [] }
        const { bytes } = meterModule(parseModule(assemble(text)), {
          gates: [{ name: 'gate', hook: 'run', shape }],
        })
        const module = new WebAssembly.Module(bytes)
        const watch = (byGate: boolean) => {
          const { exports } = new WebAssembly.Instance(module)
          const call = (name: string) => exports[name] as (...values: number[]) => number
          const seen = calls.map((a) => {
            let result: unknown
            try {
              if (byGate) result = call('gate')(a, 512)
              else {
                call(exportRefuel)(fuel)
                result = call('run')(a, b, 512, 16)
              }
            } catch (reason) {
              result = reason instanceof Error ? reason.message : reason
            }
            if (typeof result === 'number') results++
            else traps++
            return [result, call(exportFuel)()]
          })
          const memory = Buffer.from((exports['memory'] as WebAssembly.Memory).buffer).toString('latin1')
          return { seen, memory, global: (exports['g'] as WebAssembly.Global).value }
        }
        const [direct, gated] = [watch(false), watch(true)]
        assert.ok(gated.memory === direct.memory, 'memory differs')
        assert.deepEqual({ ...gated, memory: '' }, { ...direct, memory: '' })
      },
    ),
    { numRuns: 200 },
  )
  assert.ok(
    results > 100 && traps > 50,
    `${results} results and ${traps} traps: the generator has become dull`,
  )
})

/** Of a hook, with the first two parameters in the places of the generator's. */
const hookType = '(param i32 i32 i32 i32) (result i32)'

test('P17: a module with random bytes flipped is refused or rewritten into a valid one, and never breaks the pass', () => {
  const seed = policyModule({
    imports: '(import "pando1" "log" (func $log (param i32 i32 i32)))',
    hooks: {
      admit:
        '(loop $l (br_if $l (i32.const 0))) (memory.fill (local.get $out) (i32.const 0) (i32.const 8)) i32.const 0',
    },
    fields:
      '(table $t 2 funcref) (data $d "abc") (func (memory.init $d (i32.const 0) (i32.const 0) (i32.const 1)))',
  })
  let valid = 0
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.nat(seed.length - 1), fc.nat(255)), { minLength: 1, maxLength: 3 }),
      (changes) => {
        const module = seed.slice()
        for (const [at, value] of changes) module[at] = value
        const isValid = WebAssembly.validate(module)
        if (isValid) valid++
        let rewritten: Uint8Array
        try {
          rewritten = meterModule(parseModule(module)).bytes
        } catch (reason) {
          assert.ok(reason instanceof ModuleRefusal, `${reason}`)
          return
        }
        if (isValid)
          assert.ok(WebAssembly.validate(Uint8Array.from(rewritten)), 'a valid module became invalid')
      },
    ),
    { numRuns: 3_000 },
  )
  assert.ok(valid > 100, `only ${valid} changed modules were valid: the test has become dull`)
})
