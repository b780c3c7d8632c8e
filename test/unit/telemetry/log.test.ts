import assert from 'node:assert/strict'
import { test } from 'node:test'
import { formatLine, makeLogger, redactedPaths } from '../../../core/telemetry/log.ts'

function capture(level: 'debug' | 'info' = 'info') {
  const lines: string[] = []
  const logger = makeLogger(level, { write: (line) => void lines.push(line) })
  return { logger, lines }
}

test('a line is one JSON object with level, time, message and fields', () => {
  const { logger, lines } = capture()
  logger.child({ part: 's3' }).info({ bucket: 'b' }, 'hello')
  const { time, ...rest } = JSON.parse(lines[0] ?? '')
  assert.deepEqual(rest, { level: 'info', part: 's3', bucket: 'b', msg: 'hello' })
  assert.ok(Math.abs(Date.parse(time) - Date.now()) < 10_000)
})

test('lines below the level cost nothing and write nothing', () => {
  const { logger, lines } = capture('info')
  logger.debug({}, 'quiet')
  assert.deepEqual(lines, [])
})

test('secrets do not reach a line, at any depth that is logged', () => {
  const { logger, lines } = capture()
  const secret = 'hunter2-hunter2'
  const names = [
    'secretKey',
    'secretAccessKey',
    'secret',
    'password',
    'token',
    'authorization',
    'Authorization',
    'sealedSecret',
    'sealingKey',
    'signature',
    'rawTarget',
    'x-amz-security-token',
    'x-amz-server-side-encryption-customer-key',
    'x-amz-copy-source-server-side-encryption-customer-key',
    'X-Amz-Signature',
    'Signature',
    'pando-authorization',
  ]
  assert.equal(redactedPaths.length, names.length * 3)
  for (const name of names) {
    logger.info({ [name]: secret }, 'top')
    logger.info({ keys: { [name]: secret } }, 'one down')
    logger.info({ request: { headers: { [name]: secret } } }, 'two down')
  }
  assert.equal(lines.length, names.length * 3)
  for (const line of lines) {
    assert.ok(!line.includes(secret), line)
    assert.ok(line.includes('[hidden]'), line)
  }
})

test('an error is told with its code and its causes', () => {
  const { logger, lines } = capture()
  const cause = Object.assign(new Error('no space'), { code: 'ENOSPC' })
  logger.error({ err: new Error('write failed', { cause }) }, 'oh')
  const { err } = JSON.parse(lines[0] ?? '')
  assert.equal(err.message, 'write failed')
  assert.match(err.stack, /log\.test/)
  assert.deepEqual(err.cause, { code: 'ENOSPC', message: 'no space' })
})

test('an error that causes itself does not hang the logger', () => {
  const { logger, lines } = capture()
  const error = new Error('round')
  error.cause = error
  logger.error({ err: error }, 'oh')
  assert.equal(lines.length, 1)
})

test('text for people keeps control characters of names away from the terminal', () => {
  const { logger, lines } = capture()
  logger.info({ key: 'a\u001b[2Jb', plain: 'x' }, 'mess\u001bage')
  const text = formatLine(lines[0] ?? '')
  assert.ok(!text.includes('\u001b'))
  assert.match(text, /INFO {2}mess\\x1bage {2}key="a\\u001b\[2Jb" {2}plain=x\n$/)
})
