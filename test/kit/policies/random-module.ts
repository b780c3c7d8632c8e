import fc from 'fast-check'

/**
 * Random functions in WebAssembly text, of type (i32 i32) -> i32: valid, total but for their traps, and ending by themselves,
 * because each loop counts down a local of its own. For comparing a module with what the pass makes of it.
 */
export function randomFunction(): fc.Arbitrary<string> {
  const { body } = fc.letrec<{ expression: string; statement: string; body: string }>((tie) => ({
    expression: fc.oneof(
      { maxDepth: 4, withCrossShrink: true },
      fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }).map((value) => `(i32.const ${value})`),
      fc.constantFrom('(local.get 0)', '(local.get 1)', '(local.get $x)', '(global.get $g)'),
      fc
        .tuple(fc.constantFrom(...binary), tie('expression'), tie('expression'))
        .map(([operator, left, right]) => `(${operator} ${left} ${right})`),
      fc
        .tuple(fc.constantFrom(...unary), tie('expression'))
        .map(([operator, value]) => `(${operator} ${value})`),
      fc
        .tuple(tie('expression'), tie('expression'), tie('expression'))
        .map((parts) => `(select ${parts.join(' ')})`),
      fc
        .tuple(tie('expression'), tie('expression'), tie('expression'))
        .map(([test, yes, no]) => `(if (result i32) ${test} (then ${yes}) (else ${no}))`),
      tie('expression').map((at) => `(i32.load (i32.and ${at} (i32.const 1023)))`),
      fc.tuple(tie('expression'), tie('expression')).map((values) => `(call $leaf ${values.join(' ')})`),
      fc
        .tuple(tie('expression'), tie('expression'), tie('expression'))
        .map(([at, a, b]) => `(call_indirect (type $binary) ${a} ${b} (i32.and ${at} (i32.const 3)))`),
      tie('expression').map((value) => `(block (result i32) (br 0 ${value}) (drop) (i32.const 7))`),
    ),
    statement: fc.oneof(
      { maxDepth: 3 },
      tie('expression').map((value) => `(local.set $x ${value})`),
      tie('expression').map((value) => `(global.set $g ${value})`),
      fc
        .tuple(tie('expression'), tie('expression'))
        .map(([at, value]) => `(i32.store (i32.and ${at} (i32.const 1023)) ${value})`),
      fc
        .tuple(tie('expression'), tie('expression'), tie('expression'))
        .map(
          ([at, value, length]) =>
            `(memory.fill (i32.and ${at} (i32.const 1023)) ${value} (i32.and ${length} (i32.const 255)))`,
        ),
      fc
        .tuple(tie('expression'), tie('expression'), tie('expression'))
        .map(
          ([to, from, length]) =>
            `(memory.copy (i32.and ${to} (i32.const 1023)) (i32.and ${from} (i32.const 1023)) (i32.and ${length} (i32.const 255)))`,
        ),
      tie('expression').map((pages) => `(drop (memory.grow (i32.and ${pages} (i32.const 1))))`),
      fc
        .tuple(fc.integer({ min: 1, max: 6 }), tie('statement'), fc.nat(1_000_000))
        .map(([rounds, inner, id]) => loop(rounds, inner, id)),
      fc
        .tuple(tie('expression'), tie('statement'), tie('statement'))
        .map(([at, one, two]) => `(block $a (block $b (br_table $b $a ${at})) ${one}) ${two}`),
      tie('expression').map((value) => `(block (br_if 0 ${value}) (return ${value}))`),
      fc.tuple(tie('statement'), tie('statement')).map((both) => both.join(' ')),
    ),
    body: fc.tuple(tie('statement'), tie('statement'), tie('expression')).map((parts) => parts.join(' ')),
  }))
  return body
}

/** The counter lives in memory above what the statements touch, one cell for each loop and depth of the text. */
function loop(rounds: number, inner: string, id: number): string {
  const cell = 2048 + (id % 4096) * 4
  return `(i32.store (i32.const ${cell}) (i32.const ${rounds}))
    (loop $again ${inner}
      (i32.store (i32.const ${cell}) (i32.sub (i32.load (i32.const ${cell})) (i32.const 1)))
      (br_if $again (i32.gt_s (i32.load (i32.const ${cell})) (i32.const 0))))`
}

const binary = [
  'i32.add',
  'i32.sub',
  'i32.mul',
  'i32.div_s',
  'i32.rem_u',
  'i32.and',
  'i32.or',
  'i32.xor',
  'i32.shl',
  'i32.shr_s',
  'i32.rotl',
  'i32.lt_u',
  'i32.eq',
]
const unary = ['i32.clz', 'i32.popcnt', 'i32.eqz', 'i32.extend8_s']

export function moduleOf(body: string): string {
  return `(module
    (type $binary (func (param i32 i32) (result i32)))
    (memory (export "memory") 1 4)
    (global $g (export "g") (mut i32) (i32.const 5))
    (table 4 funcref)
    (elem (i32.const 0) $leaf $other $leaf)
    (func $leaf (type $binary) (i32.xor (i32.mul (local.get 0) (i32.const 31)) (local.get 1)))
    (func $other (type $binary) (local $n i32)
      (local.set $n (i32.and (local.get 0) (i32.const 7)))
      (loop $l (local.set 1 (i32.add (local.get 1) (local.get $n)))
        (br_if $l (i32.gt_s (local.tee $n (i32.sub (local.get $n) (i32.const 1))) (i32.const 0))))
      (local.get 1))
    (func (export "run") (type $binary) (local $x i32) ${body}))`
}
