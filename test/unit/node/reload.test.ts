import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import { loadConfig } from '../../../core/node/config/load.ts'
import { changedKeys, isHot, reload } from '../../../core/node/config/reload.ts'
import { startNode } from '../../kit/node-process.ts'

const load = (text: string) => loadConfig({ file: { name: 'f', text }, environment: {} })

test('numbers of QoS count at once; the rest is told', () => {
  const before = load('{}')
  const after = load(
    '{qos: {budgets: [{tenant: a, requests: 5}]}, s3: {idleTimeout: 9s}, log: {level: debug}}',
  )
  assert.deepEqual(changedKeys(before, after), ['log.level', 'qos.budgets', 's3.idleTimeout'])
  let applied: unknown
  const { config, report } = reload(before, after, (qos) => {
    applied = qos.budgets
  })
  assert.deepEqual(report, { applied: ['qos.budgets'], afterRestart: ['log.level', 's3.idleTimeout'] })
  assert.deepEqual(applied, after.qos.budgets)
  // What needs a restart is told again until there was one.
  assert.deepEqual(reload(config, after, () => assert.fail('nothing to do')).report, {
    applied: [],
    afterRestart: ['log.level', 's3.idleTimeout'],
  })
})

test('limits of links to other regions count at once; where tunnels are taken does not', () => {
  const before = load('{tunnel: {rateLimits: {far: 1MB}}}')
  const after = load('{tunnel: {listen: "127.0.0.1:1", rateLimit: 40MB, rateLimits: {far: 2MB}}}')
  const { config, report } = reload(before, after, () => assert.fail('no number of QoS has changed'))
  assert.deepEqual(report, {
    applied: ['tunnel.rateLimit', 'tunnel.rateLimits.far'],
    afterRestart: ['tunnel.listen.port'],
  })
  assert.deepEqual(config.tunnel, { ...before.tunnel, rateLimit: 40_000_000, rateLimits: { far: 2_000_000 } })
  assert.throws(() => load('{tunnel: {rateLimit: 1KiB}}'), { code: 'INVALID_CONFIG' })
})

/** Every value of a configuration that is no mapping, by its dotted key. */
function leavesOf(value: unknown, path = ''): [string, unknown][] {
  if (typeof value !== 'object' || value === null || Array.isArray(value) || value instanceof Map)
    return [[path, value]]
  return Object.entries(value).flatMap(([name, inner]) =>
    leavesOf(inner, path === '' ? name : `${path}.${name}`),
  )
}

test('every key that is marked so counts at once, and no other does', () => {
  const before = load('{tunnel: {rateLimit: 40MB, rateLimits: {far: 1MB}}}')
  const leaves = leavesOf(before)
  const hot = leaves.filter(([path]) => isHot(path))
  assert.ok(hot.length >= 20 && hot.length < leaves.length, `${hot.length} of ${leaves.length} keys`)
  const own = ['node', 'data']
  for (const [path, value] of leaves.filter(([each]) => !own.includes(each))) {
    const next = structuredClone(before)
    const other = typeof value === 'number' ? value + 1 : `not ${String(value)}`
    const names = path.split('.')
    const last = names.pop() ?? assert.fail()
    const holder = names.reduce<unknown>((at, name) => Reflect.get(at as object, name), next)
    Reflect.set(holder as object, last, other)
    let told: unknown
    const { config, report } = reload(before, next, (qos) => {
      told = qos
    })
    const isMarked = isHot(path)
    const inForce = new Map(leavesOf(config)).get(path)
    assert.deepEqual(inForce, isMarked ? other : value, path)
    assert.deepEqual(
      report,
      isMarked ? { applied: [path], afterRestart: [] } : { applied: [], afterRestart: [path] },
    )
    if (path.startsWith('qos.')) {
      const given = isMarked ? new Map(leavesOf(told, 'qos')).get(path) : undefined
      assert.deepEqual(given, isMarked ? other : undefined, path)
    }
  }
})

test('a configuration that does not fit, or is of another node, changes nothing', () => {
  const before = load('{}')
  const after = load('{qos: {budgets: [{tenant: a, requests: 5}]}}')
  assert.throws(() =>
    reload(before, after, () => {
      throw new Error('it does not fit')
    }),
  )
  assert.throws(() => reload(before, load('{node: other}'), () => assert.fail()), { code: 'INVALID_CONFIG' })
})

test('a running node takes new budgets by command and by signal, and refuses a broken file', async () => {
  await using node = await startNode()
  const file = join(dirname(node.dataDirectory), 'pando.json')
  const write = (config: unknown) =>
    writeFile(
      file,
      typeof config === 'string'
        ? config
        : JSON.stringify({ store: { capacity: '4GiB' }, ...(config as object) }),
    )
  await write({ qos: { budgets: [{ tenant: 'root', requests: 3 }] } })
  const reloaded = await node.command('config', 'reload', '--json')
  assert.deepEqual(JSON.parse(reloaded.stdout), { applied: ['qos.budgets'], afterRestart: [] })
  await write('{broken')
  const refused = await node.command('config', 'reload')
  assert.equal(refused.code, 2, refused.stderr)
  await write({})
  process.kill(node.pid, 'SIGHUP')
  const deadline = performance.now() + 10_000
  while (!node.logTail().includes('read again') || node.logTail().split('read again').length < 3) {
    assert.ok(performance.now() < deadline, node.logTail())
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  assert.ok(node.running)
})
