import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { Clock } from '../../../core/contract/clock.ts'
import {
  createCallVerifier,
  maxSkewMs,
  type SignedMetadata,
  sealForCall,
  signCall,
  unsealForCall,
} from '../../../core/control/authentication.ts'

const keys = { accessKeyId: 'ROOT', secretKey: 'a-secret-of-the-root-account' }
const method = '/pando.admin.v1.Admin/GetStatus'
const body = Buffer.from('body')

/** A clock that a test moves: `step` both, `wall` only what the wall clock shows. */
function makeClock() {
  let now = 1_700_000_000_000
  let monotonic = 0
  const clock: Clock = { now: () => now, monotonic: () => monotonic, sleep: async () => undefined }
  return {
    clock,
    step(ms: number) {
      now += ms
      monotonic += ms
    },
  }
}

const nonceLimit = 500
let counter = 0
const nonce = () => (++counter).toString(16).padStart(32, '0')

function setUp() {
  const { clock, step } = makeClock()
  const verifier = createCallVerifier(keys, clock, nonceLimit)
  const verify = (signed: SignedMetadata, on = method, over: Uint8Array = body) =>
    verifier.verify(on, (name) => signed[name], over)
  const sign = (atMs = clock.now(), with_ = keys) => signCall(with_, method, body, atMs, nonce())
  return { clock, step, verify, sign, verifier }
}

test('a signed call passes, and its secret is nowhere in it', () => {
  const { verify, sign } = setUp()
  const signed = sign()
  assert.equal(verify(signed), signed['pando-nonce'])
  assert.ok(!JSON.stringify(signed).includes(keys.secretKey))
})

test('a stranger gets one answer, whatever it is that he lacks', () => {
  const { verify, sign, clock, verifier } = setUp()
  const wrongSecret = sign(clock.now(), { ...keys, secretKey: 'another-secret' })
  const wrongKey = sign(clock.now(), { ...keys, accessKeyId: 'OTHER' })
  const told = [wrongSecret, wrongKey].map((signed) => {
    try {
      verify(signed)
      return 'passed'
    } catch (error) {
      return String(error)
    }
  })
  assert.equal(told[0], told[1])
  assert.match(told[0] ?? '', /UNAUTHENTICATED/)
  assert.throws(() => verifier.verify(method, () => undefined, body), { code: 'UNAUTHENTICATED' })
})

test('a signature is for one method, one body, one time and one nonce', () => {
  const { verify, sign } = setUp()
  const refused = { code: 'UNAUTHENTICATED', message: /not signed with the root key/ }
  assert.throws(() => verify(sign(), '/pando.admin.v1.Admin/Stop'), refused)
  assert.throws(() => verify(sign(), method, Buffer.from('other')), refused)
  assert.throws(() => verify({ ...sign(), 'pando-time': '1700000000001' }), refused)
  assert.throws(() => verify({ ...sign(), 'pando-nonce': nonce() }), refused)
})

test('whatever is sent as metadata, nothing but a signature passes and nothing breaks', () => {
  const { verifier } = setUp()
  fc.assert(
    fc.property(fc.array(fc.string({ maxLength: 80 }), { minLength: 4, maxLength: 4 }), (values) => {
      const names = ['pando-key', 'pando-time', 'pando-nonce', 'pando-signature']
      assert.throws(() => verifier.verify(method, (name) => values[names.indexOf(name)], body), {
        code: 'UNAUTHENTICATED',
      })
    }),
  )
})

test('a replay is refused for as long as its time would be accepted', () => {
  const { verify, sign, step, clock } = setUp()
  // From the greatest lead to the greatest lag of the caller's clock.
  const signed = sign(clock.now() + maxSkewMs)
  verify(signed)
  for (let elapsed = 0; elapsed < 2 * maxSkewMs; elapsed += 5_000) {
    assert.throws(() => verify(signed), { code: 'UNAUTHENTICATED', message: /replay/ }, `after ${elapsed} ms`)
    step(5_000)
    // Other calls come and go: they turn the generations of nonces.
    verify(sign())
  }
  step(5_000)
  assert.throws(() => verify(signed), { code: 'REQUEST_TIME_TOO_SKEWED' })
})

test('clocks may differ by a minute and no more; who is behind and by how much is told', () => {
  const { verify, sign, clock, step } = setUp()
  step(10 * maxSkewMs)
  verify(sign(clock.now() - maxSkewMs))
  verify(sign(clock.now() + maxSkewMs))
  assert.throws(() => verify(sign(clock.now() - maxSkewMs - 1000)), {
    code: 'REQUEST_TIME_TOO_SKEWED',
    message: /61 s behind/,
  })
  assert.throws(() => verify(sign(clock.now() + maxSkewMs + 1000)), {
    code: 'REQUEST_TIME_TOO_SKEWED',
    message: /61 s ahead of/,
  })
})

test('a call that an earlier run of the node may have answered is refused', () => {
  const { verify, sign, clock } = setUp()
  assert.throws(() => verify(sign(clock.now() - 1)), {
    code: 'REQUEST_TIME_TOO_SKEWED',
    message: /before the node started/,
  })
})

test('nonces are bounded: beyond that calls are refused, and time heals it', () => {
  const { verify, sign, step } = setUp()
  for (let index = 0; index < nonceLimit; index++) verify(sign())
  assert.throws(() => verify(sign()), { code: 'OVERLOADED' })
  step(2 * maxSkewMs + 1)
  verify(sign())
})

test('strangers cannot use up the nonces', () => {
  const { verify, sign, clock } = setUp()
  for (let index = 0; index < 2 * nonceLimit; index++) {
    const signed = { ...sign(clock.now()), 'pando-signature': '0'.repeat(64) }
    assert.throws(() => verify(signed), { code: 'UNAUTHENTICATED' })
  }
  verify(sign())
})

test('a secret sealed for a call opens for that call, that direction and that key only', () => {
  const first = nonce()
  const sealed = sealForCall(keys, first, 'reply', 'new secret')
  assert.equal(unsealForCall(keys, first, 'reply', sealed), 'new secret')
  assert.ok(!Buffer.from(sealed).includes('new secret'))
  const refused = { code: 'UNAUTHENTICATED' }
  assert.throws(() => unsealForCall(keys, nonce(), 'reply', sealed), refused)
  assert.throws(() => unsealForCall(keys, first, 'request', sealed), refused)
  assert.throws(() => unsealForCall({ ...keys, secretKey: 'other-secret' }, first, 'reply', sealed), refused)
  assert.throws(() => unsealForCall(keys, first, 'reply', sealed.subarray(0, 10)), refused)
})
