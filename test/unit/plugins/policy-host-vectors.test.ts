import assert from 'node:assert/strict'
import test from 'node:test'
import { abiBounds } from '../../../plugins/abi/idl.ts'
import { admitAll, policyModule, shedAll } from '../../kit/policies/assemble.ts'
import { admitInput, MovableClock, openRegion } from '../../kit/policies/policy-region.ts'

const admits = (name: string, settings: object = {}) => ({
  name,
  hook: 'admit',
  settings,
  input: {},
  expect: { verdict: 'admit' },
})
const numbered = (count: number) =>
  Array.from({ length: count }, (_, at) => admits(`number ${at}`, { number: at }))

test('the vectors of many configurations do not hold their memory together, and let the node do its work', async () => {
  const fourMiB = '(memory.fill (i32.const 65536) (i32.const 7) (i32.const 4100000)) i32.const 0'
  const wasm = policyModule({
    memory: '(memory (export "memory") 64)',
    init: fourMiB,
    hooks: { admit: admitAll },
    vectors: { vectors: numbered(150) },
  })
  const region = await openRegion()
  const residentMiB = () => process.memoryUsage().rss / 2 ** 20
  const beforeMiB = residentMiB()
  let mostMiB = beforeMiB
  let turns = 0
  let isOver = false
  const count = () => {
    turns++
    mostMiB = Math.max(mostMiB, residentMiB())
    if (!isOver) setImmediate(count)
  }
  setImmediate(count)
  const { failure, vectors } = await region.host.inspect({ wasm })
  mostMiB = Math.max(mostMiB, residentMiB())
  isOver = true
  assert.equal(failure, undefined)
  assert.equal(vectors.length, 150)
  assert.ok(mostMiB - beforeMiB < 300, `${(mostMiB - beforeMiB).toFixed(0)} MiB for 150 times 4 MiB`)
  assert.ok(turns >= 150, `${turns} turns of the event loop`)
  await region.host.close()
})

test('vectors that take too long together are refused with the time that they may take', async () => {
  // Each look at the clock is 30 ms after the one before.
  class HastyClock extends MovableClock {
    override monotonic(): number {
      this.move(30)
      return super.monotonic()
    }
  }
  const region = await openRegion({ clock: new HastyClock() })
  await region.serve(policyModule({ hooks: { admit: shedAll } }))
  const wasm = policyModule({ hooks: { admit: admitAll }, vectors: { vectors: numbered(250) } })
  const { failure } = await region.host.inspect({ wasm })
  assert.equal(failure?.stage, 'self-tested')
  assert.match(failure?.reason ?? '', /the vectors took more than 10000 ms .* of 250/)
  assert.equal(region.host.decisions.admit(admitInput()).verdict, 'shed', 'the old one goes on serving')
  await region.host.close()
})

test('vectors of more bytes, or of more settings, than there is room for are refused before they run', async () => {
  const region = await openRegion()
  const large = policyModule({
    hooks: { admit: admitAll },
    vectors: { vectors: [admits('large', { text: 'x'.repeat(abiBounds.vectorsBytes) })] },
  })
  const refusal = async (wasm: Uint8Array<ArrayBuffer>) => (await region.host.inspect({ wasm })).failure
  const ofLarge = await refusal(large)
  assert.equal(ofLarge?.stage, 'self-tested')
  assert.match(ofLarge?.reason ?? '', /the vectors have \d+ bytes, more than 262144/)
  const many = (count: number) =>
    policyModule({ hooks: { admit: admitAll }, vectors: { vectors: numbered(count) } })
  assert.equal(await refusal(many(abiBounds.vectorSettings)), undefined)
  assert.match(
    (await refusal(many(abiBounds.vectorSettings + 1)))?.reason ?? '',
    /257 different settings, more than 256/,
  )
  await region.host.close()
})

test('results come in the order of the vectors, whatever settings they share and whichever of them trap', async () => {
  // Traps at tokens below 0; refuses a configuration that is longer than 120 bytes.
  const wasm = policyModule({
    hooks: {
      admit: `(if (f64.lt (f64.load offset=80 (local.get $in)) (f64.const 0)) (then unreachable)) ${admitAll}`,
    },
    init: '(if (i32.gt_u (local.get $length) (i32.const 120)) (then (return (i32.const -3)))) i32.const 0',
    vectors: {
      classes: ['one'],
      vectors: [
        admits('a', { a: 1 }),
        { ...admits('trap', { b: 1 }), input: { tokens: -1 } },
        { ...admits('refused', { long: 'x'.repeat(120) }), expect: { status: 'refused' } },
        admits('not refused', { long: 'x'.repeat(120) }),
        admits('a again', { a: 1 }),
        admits('after the trap', { b: 1 }),
      ],
    },
  })
  const region = await openRegion()
  const { vectors } = await region.host.inspect({ wasm })
  assert.deepEqual(
    vectors.map(({ name, difference = '' }) => [name, difference.replace(/:.*/, '')]),
    [
      ['a', ''],
      ['trap', 'admit'],
      ['refused', ''],
      ['not refused', 'expected decided, got refused'],
      ['a again', ''],
      ['after the trap', ''],
    ],
  )
  await region.host.close()
})

test('two who push the same module at once get the same results', async () => {
  const region = await openRegion()
  const wasm = policyModule({ hooks: { admit: admitAll }, vectors: { vectors: numbered(20) } })
  const [one, other] = await Promise.all([region.host.push({ wasm }), region.host.push({ wasm })])
  assert.equal(one.vectors.length, 20)
  assert.deepEqual(one.vectors, other.vectors)
  await region.host.close()
})
