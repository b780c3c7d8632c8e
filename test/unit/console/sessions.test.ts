import assert from 'node:assert/strict'
import { createHmac } from 'node:crypto'
import { test } from 'node:test'
import { type ConsoleKey, LoginDesk, loginLimits } from '../../../core/console/login.ts'
import { SessionStore, sessionLimits } from '../../../core/console/sessions.ts'
import type { Clock } from '../../../core/contract/clock.ts'
import { StorageError } from '../../../core/contract/errors.ts'

/** Nothing here waits, so the clock only has to be moved. */
class SetClock implements Clock {
  #ms = 1000
  now = (): number => this.#ms
  monotonic = (): number => this.#ms
  sleep = (): Promise<void> => Promise.reject(new Error('nothing waits here'))
  advance(byMs: number): void {
    this.#ms += byMs
  }
}

/** Never the same bytes twice. */
function counting() {
  let next = 0
  return {
    fill(target: Uint8Array): Uint8Array {
      new DataView(target.buffer, target.byteOffset).setUint32(0, next++)
      return target
    },
  }
}

const root: ConsoleKey = {
  account: 'root',
  secretKey: 'a-secret-of-the-root-account',
  root: true,
  admin: true,
}
const plain: ConsoleKey = { account: 'alice', secretKey: 'a-secret-of-alice', root: false, admin: false }

function openDesk() {
  const clock = new SetClock()
  const keys = new Map([
    ['ROOT', root],
    ['ALICE', plain],
  ])
  const desk = new LoginDesk(clock, counting(), (id) => keys.get(id))
  return { clock, desk, keys }
}

const proofOf = (secret: string, challenge: string, accessKeyId: string): string => {
  const key = createHmac('sha256', secret).update('pando-console-v1').digest()
  return createHmac('sha256', key)
    .update(['pando-console-v1', challenge, accessKeyId].join('\n'))
    .digest('hex')
}

const codeOf = (work: () => unknown): string => {
  try {
    work()
    return 'none'
  } catch (error) {
    return StorageError.from(error).code
  }
}

test('a proof lets in once, for its key and its challenge, within a minute', () => {
  const { clock, desk } = openDesk()
  const challenge = desk.challenge()
  const proof = proofOf(root.secretKey, challenge, 'ROOT')
  const ask = (change: object) => () =>
    desk.prove({ accessKeyId: 'ROOT', challenge, proof, ...change }, '10.0.0.1')
  assert.equal(codeOf(ask({ accessKeyId: 'ALICE' })), 'UNAUTHENTICATED')
  assert.equal(codeOf(ask({ accessKeyId: 'NOBODY' })), 'UNAUTHENTICATED')
  assert.equal(codeOf(ask({ proof: '' })), 'UNAUTHENTICATED')
  assert.equal(
    codeOf(ask({ proof: proof.replace(/.$/, (digit) => (digit === '0' ? '1' : '0')) })),
    'UNAUTHENTICATED',
  )
  assert.equal(codeOf(ask({ challenge: desk.challenge() })), 'UNAUTHENTICATED')
  // The proof fits, but the challenge is none of the desk's.
  const own = 'A'.repeat(54)
  assert.equal(
    codeOf(ask({ challenge: own, proof: proofOf(root.secretKey, own, 'ROOT') })),
    'UNAUTHENTICATED',
  )
  assert.equal(desk.prove({ accessKeyId: 'ROOT', challenge, proof }, '10.0.0.1'), root)
  assert.equal(codeOf(ask({})), 'UNAUTHENTICATED', 'not a second time')

  const late = desk.challenge()
  clock.advance(60_001)
  assert.equal(
    codeOf(ask({ challenge: late, proof: proofOf(root.secretKey, late, 'ROOT') })),
    'UNAUTHENTICATED',
  )
})

test('a key that may not administer proves itself like any other, and its log-ins keep nobody out', () => {
  const { clock, desk } = openDesk()
  const logIn = (accessKeyId: string, secret: string) => {
    const challenge = desk.challenge()
    const proof = proofOf(secret, challenge, accessKeyId)
    return codeOf(() => desk.prove({ accessKeyId, challenge, proof }, '10.0.0.1'))
  }
  assert.equal(logIn('ALICE', 'a guess'), 'UNAUTHENTICATED')
  for (let count = 0; count < loginLimits.perKey; count++)
    assert.equal(logIn('ALICE', plain.secretKey), 'none')
  assert.equal(logIn('ALICE', plain.secretKey), 'OVERLOADED')
  for (let count = 0; count < 2 * loginLimits.perKey; count++)
    assert.equal(logIn('ROOT', root.secretKey), 'none', 'who administers has more')
  clock.advance(60_001)
  assert.equal(logIn('ALICE', plain.secretKey), 'none', 'a minute later')
})

test('who guesses waits; others do not wait for them', () => {
  const { clock, desk } = openDesk()
  const guess = (from: string) => {
    const challenge = desk.challenge()
    return codeOf(() => desk.prove({ accessKeyId: 'ROOT', challenge, proof: 'f'.repeat(64) }, from))
  }
  const right = (from: string) => {
    const challenge = desk.challenge()
    const proof = proofOf(root.secretKey, challenge, 'ROOT')
    return codeOf(() => desk.prove({ accessKeyId: 'ROOT', challenge, proof }, from))
  }
  for (let count = 0; count < 10; count++) assert.equal(guess('2001:db8::1'), 'UNAUTHENTICATED')
  assert.equal(guess('2001:db8::1'), 'OVERLOADED')
  // The other addresses of the same /64 are the same host's; of another one, another's.
  assert.equal(guess('2001:db8:0:0:5::9'), 'OVERLOADED')
  assert.equal(guess('2001:db8:0:1::1'), 'UNAUTHENTICATED')
  assert.equal(right('2001:db8::1'), 'OVERLOADED', 'nor the right secret, or it would be told apart')
  assert.equal(right('10.0.0.2'), 'none')
  clock.advance(6_001)
  assert.equal(right('2001:db8::1'), 'none')
  // An hour of guessing gets no further than one guess in six seconds.
  let answered = 0
  for (let second = 0; second < 3600; second++) {
    clock.advance(1000)
    if (guess('10.0.0.3') === 'UNAUTHENTICATED') answered++
  }
  assert.ok(answered <= 610, `${answered} guesses in an hour`)
})

const ofRoot = { accessKeyId: 'ROOT', keyPrint: 'print', admin: true }

test('a session ends when nobody uses it, and at the latest after twelve hours', () => {
  const clock = new SetClock()
  const sessions = new SessionStore(clock, counting())
  const idle = sessions.open(ofRoot)
  const used = sessions.open(ofRoot)
  assert.notEqual(idle, used)
  assert.equal(sessions.find('a token of my choice'), undefined)
  clock.advance(sessionLimits.idleMs - 1)
  assert.equal(sessions.find(used)?.accessKeyId, 'ROOT')
  clock.advance(2)
  assert.equal(sessions.find(idle), undefined)
  for (let spent = sessionLimits.idleMs; spent < sessionLimits.lifeMs; spent += 60_000) {
    clock.advance(60_000)
    sessions.find(used)
  }
  clock.advance(60_000)
  assert.equal(sessions.find(used), undefined)
  assert.equal(sessions.size, 0)
})

test('sessions are bounded, of one key and of all', () => {
  const sessions = new SessionStore(new SetClock(), counting())
  const first = sessions.open(ofRoot)
  for (let count = 0; count < sessionLimits.perKey; count++) sessions.open(ofRoot)
  assert.equal(sessions.size, sessionLimits.perKey)
  assert.equal(sessions.find(first), undefined, 'the one that was used least goes')
  const own = sessions.open(ofRoot)
  for (let count = 0; count < 2 * sessionLimits.all; count++)
    sessions.open({ accessKeyId: `key-${count}`, keyPrint: 'print', admin: false })
  assert.equal(sessions.size, sessionLimits.all)
  assert.equal(sessions.find(own)?.accessKeyId, 'ROOT', 'others push no administrator out')
})

test('sessions whose key is not what it was are ended also when nobody uses them', () => {
  const sessions = new SessionStore(new SetClock(), counting())
  const root = sessions.open(ofRoot)
  const alice = sessions.open({ accessKeyId: 'ALICE', keyPrint: 'print', admin: false })
  sessions.keep(({ accessKeyId }) => accessKeyId === 'ROOT')
  assert.equal(sessions.find(alice), undefined)
  assert.equal(sessions.find(root)?.accessKeyId, 'ROOT')
})
