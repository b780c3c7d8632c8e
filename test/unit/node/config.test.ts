import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { formatListen, isLoopback, parseListen } from '../../../core/node/config/addresses.ts'
import { configKeys, nearest } from '../../../core/node/config/describe.ts'
import { environmentKeys, loadConfig, rootKeysFrom } from '../../../core/node/config/load.ts'
import { formatDuration, formatSize, parseDuration, parseSize } from '../../../core/node/config/quantities.ts'

const fromText = (text: string, environment = {}) =>
  loadConfig({ file: { name: 'pando.yaml', text }, environment })

test('without a file everything has a default and listens on loopback only', () => {
  const config = loadConfig({ environment: {} })
  assert.equal(config.data, './data')
  assert.deepEqual(config.s3.listen, { host: '127.0.0.1', port: 9000 })
  assert.deepEqual(config.admin.listen, { host: '127.0.0.1', port: 9001 })
  assert.deepEqual(config.console.listen, { host: '127.0.0.1', port: 9002 })
  assert.deepEqual(config.rpc.listen, { host: '127.0.0.1', port: 9003 })
  assert.deepEqual(config.tunnel.listen, { host: '127.0.0.1', port: 9004 })
  assert.equal(config.store.pool, 256 * 1024 * 1024)
  assert.equal(config.maintenance.scrubInterval, 14 * 86_400_000)
})

test('a built-in policy that always decides on admission is asked after those that seldom do', () => {
  const { builtin } = loadConfig({ environment: {} }).policies
  assert.ok(builtin.indexOf('tenant-caps') >= 0)
  assert.ok(builtin.indexOf('tenant-caps') < builtin.indexOf('fair'), `${builtin}`)
})

test('YAML and JSON say the same thing', () => {
  const yaml = fromText('s3:\n  listen: 127.0.0.1:0\nstore:\n  cache: 64MiB\n  reactors: 2\n')
  const json = fromText('{"s3": {"listen": "127.0.0.1:0"}, "store": {"cache": 67108864, "reactors": 2}}')
  assert.deepEqual(yaml, json)
  assert.equal(yaml.store.cache, 64 * 1024 * 1024)
})

test('an unknown key is refused with its path and the key that was meant', () => {
  assert.throws(() => fromText('s3:\n  lisen: 127.0.0.1:0\n'), {
    code: 'INVALID_CONFIG',
    message: /pando\.yaml[\s\S]*s3\.lisen: unknown key; did you mean 'listen'\?/,
  })
  assert.throws(() => fromText('blorp: 1\n'), {
    message: /blorp: unknown key; known here: data, node, region/,
  })
})

test('every problem of a file is told at once', () => {
  assert.throws(
    () => fromText('s3:\n  chunkBytes: 9GiB\nstore:\n  capacity: lots\nlog:\n  level: loud\n'),
    (error) => {
      assert.ok(error instanceof Error)
      assert.match(
        error.message,
        /s3\.chunkBytes: 9GiB is 9663676416 bytes; it must be between 65536 and 4194304/,
      )
      assert.match(error.message, /store\.capacity: 'lots' is not a size; write for example 256MiB/)
      assert.match(error.message, /log\.level: /)
      return true
    },
  )
})

test('the environment wins over the file, and the command line over both', () => {
  const file = { name: 'f', text: 's3:\n  listen: 127.0.0.1:1\ndata: /file' }
  const environment = { PANDO_S3_LISTEN: '127.0.0.1:2', PANDO_DATA: '/env' }
  assert.equal(loadConfig({ file, environment }).s3.listen.port, 2)
  assert.equal(loadConfig({ file, environment }).data, '/env')
  assert.equal(loadConfig({ file, environment, overrides: { data: '/cli' } }).data, '/cli')
})

test('a bad value from the environment names the variable', () => {
  assert.throws(() => loadConfig({ environment: { PANDO_S3_LISTEN: 'nonsense' } }), {
    message: /s3\.listen: 'nonsense' is not an address.*\(from PANDO_S3_LISTEN\)/,
  })
})

test('every environment key is a key of the configuration, and every key is documented', () => {
  const keys = configKeys()
  const paths = new Set(keys.map((key) => key.path))
  for (const path of Object.values(environmentKeys)) assert.ok(paths.has(path), path)
  for (const [variable, path] of Object.entries(environmentKeys)) {
    assert.ok(
      keys.find((key) => key.path === path)?.description.includes(variable),
      `${path} names ${variable}`,
    )
  }
  for (const key of keys) {
    assert.ok(key.description.length > 10, `${key.path} has no description`)
    if (!key.isSection) assert.notEqual(key.defaultValue, undefined, `${key.path} has no default`)
  }
})

test('broken YAML, a list and a duplicate key are refused', () => {
  assert.throws(() => fromText('s3: [unclosed'), { code: 'INVALID_CONFIG' })
  assert.throws(() => fromText('- a\n- b\n'), { message: /it must be a mapping of keys/ })
  assert.throws(() => fromText('data: a\ndata: b\n'), { message: /unique/i })
  assert.throws(() => fromText(`data: ${'x'.repeat(1024 * 1024)}`), { message: /larger than 1 MiB/ })
})

test('aliases that unfold without bound are refused', () => {
  const levels = Array.from({ length: 12 }, (_, level) =>
    level === 0
      ? 'a0: &a0 [x, x, x, x]'
      : `a${level}: &a${level} [${Array(8)
          .fill(`*a${level - 1}`)
          .join(', ')}]`,
  )
  assert.throws(() => fromText(levels.join('\n')))
})

test('a prototype cannot be polluted through the file', () => {
  assert.throws(() => fromText('__proto__:\n  polluted: yes\n'))
  assert.equal(Object.hasOwn(Object.prototype, 'polluted'), false)
})

test('root keys come in pairs and the secret is never in the message', () => {
  assert.equal(rootKeysFrom({}), undefined)
  assert.deepEqual(
    rootKeysFrom({ PANDO_ROOT_ACCESS_KEY: 'root', PANDO_ROOT_SECRET_KEY: 'long enough'.replace(' ', '-') }),
    {
      accessKeyId: 'root',
      secretKey: 'long-enough',
    },
  )
  assert.throws(() => rootKeysFrom({ PANDO_ROOT_ACCESS_KEY: 'root' }), {
    message: /PANDO_ROOT_SECRET_KEY is not set/,
  })
  assert.throws(
    () => rootKeysFrom({ PANDO_ROOT_ACCESS_KEY: 'root', PANDO_ROOT_SECRET_KEY: 'short' }),
    (error) => error instanceof Error && !error.message.includes('short '),
  )
})

test('sizes are exact or refused', () => {
  assert.equal(parseSize('256MiB'), 268_435_456)
  assert.equal(parseSize('1.5 gib'), 1_610_612_736)
  assert.equal(parseSize('10MB'), 10_000_000)
  assert.equal(parseSize(4096), 4096)
  for (const bad of ['', 'x', '-1', '1.3B', '1e6', '10 parsecs', '99999999TiB', '1MiB2']) {
    assert.equal(parseSize(bad), undefined, bad)
  }
  assert.equal(parseSize(-1), undefined)
  assert.equal(parseSize(1.5), undefined)
})

test('durations are exact or refused, and m is minutes, not months', () => {
  assert.equal(parseDuration('14d'), 1_209_600_000)
  assert.equal(parseDuration('1.5s'), 1500)
  assert.equal(parseDuration('5m'), 300_000)
  for (const bad of ['', '5M', '5 weeks', '-1s']) assert.equal(parseDuration(bad), undefined, bad)
})

test('amounts are shown short', () => {
  assert.equal(formatSize(1023), '1023 B')
  assert.equal(formatSize(1536), '1.50 KiB')
  assert.equal(formatSize(268_435_456), '256 MiB')
  assert.equal(formatDuration(900), '900ms')
  assert.equal(formatDuration(200_000), '3m 20s')
  assert.equal(formatDuration(86_400_000 * 2 + 4 * 3_600_000 + 5000), '2d 4h')
  assert.equal(formatDuration(86_400_000 + 5000), '1d')
})

test('addresses round-trip', () => {
  fc.assert(
    fc.property(
      fc.oneof(fc.ipV4(), fc.ipV6(), fc.domain()),
      fc.integer({ min: 0, max: 65_535 }),
      (host, port) => {
        assert.deepEqual(parseListen(formatListen({ host, port })), { host, port })
      },
    ),
  )
  assert.deepEqual(parseListen(':9000'), { host: '127.0.0.1', port: 9000 })
  for (const bad of ['9000', 'a:b', 'a:70000', '::1:9000', 'http://a:1'])
    assert.equal(parseListen(bad), undefined, bad)
})

test('loopback is known for what it is', () => {
  for (const host of ['127.0.0.1', '127.9.8.7', 'localhost', '::1']) assert.ok(isLoopback(host), host)
  for (const host of ['0.0.0.0', '::', '10.0.0.1', '127.0.0.1.example.com'])
    assert.ok(!isLoopback(host), host)
})

test('a suggestion is near or absent', () => {
  assert.equal(nearest('lisen', ['listen', 'domains']), 'listen')
  assert.equal(nearest('zzzzzz', ['listen', 'domains']), undefined)
})
