import assert from 'node:assert/strict'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { type TestContext, test } from 'node:test'
import { createDirectCatalog } from '../../../core/catalog/direct-catalog.ts'
import { MemoryTables } from '../../../core/catalog/memory-tables.ts'
import { StorageError } from '../../../core/contract/errors.ts'
import { silentLogger } from '../../../core/contract/logger.ts'
import type { NodeConfigState } from '../../../core/contract/region-config.ts'
import { configJsonSchema } from '../../../core/node/config/describe.ts'
import { loadConfig } from '../../../core/node/config/load.ts'
import { parseRegionConfig, valuesOf } from '../../../core/node/config/region-layer.ts'
import { isHot } from '../../../core/node/config/reload.ts'
import { realEnvironment } from '../../../core/node/environment.ts'
import { openConfigInForce } from '../../../core/node/region-config/config-in-force.ts'
import { readTakenVersion } from '../../../core/node/region-config/taken-version.ts'
import { openQos } from '../../../core/qos/open-qos.ts'
import { seededEnvironment } from '../../kit/catalog-driver.ts'

const refusal = (code: string, text: RegExp) => (error: unknown) =>
  error instanceof StorageError && error.code === code && text.test(error.message)

test('the JSON Schema of the repository is that of the program', async () => {
  const path = resolve(import.meta.dirname, '../../../../core/node/config/config.schema.json')
  const text = `${JSON.stringify(configJsonSchema(), null, 2)}\n`
  if (process.env['PANDO_UPDATE'] === '1') await writeFile(path, text)
  assert.equal(await readFile(path, 'utf8'), text, 'PANDO_UPDATE=1 writes it anew')
})

test("what each node has its own of is refused in the region's configuration, by name", () => {
  for (const text of [
    'data: /x',
    'node: n1',
    'regionId: 3',
    's3: {listen: 0.0.0.0:1}',
    'admin: {listen: 0.0.0.0:1}',
    'cluster: {replicas: 2}',
    'rpc: {listen: 0.0.0.0:1}',
    'tls: {certFile: a}',
    'store: {capacity: 1TiB}',
    'policies: {watch: /x}',
  ]) {
    const key = text.replace(/: \{/, '.').replace(/:.*/, '')
    assert.throws(
      () => parseRegionConfig(`${text}\nqos: {planInterval: 2s}\n`, 'r.yaml'),
      refusal('INVALID_CONFIG', new RegExp(`r.yaml is not valid:\\n  ${key}: each node has its own`)),
    )
  }
  const text = 'qos: {planInterval: 2s}\nstore: {cache: 1GiB}\nlog: {level: debug}\n'
  assert.deepEqual(
    [...valuesOf(parseRegionConfig(text, 'r.yaml'))],
    [
      ['qos.planInterval', '"2s"'],
      ['store.cache', '"1GiB"'],
      ['log.level', '"debug"'],
    ],
  )
})

test('a key that would reach the prototype of every object is refused', () => {
  for (const text of [
    '__proto__:\n  reached: 1\n',
    'qos:\n  __proto__: { reached: 1 }\n',
    '{"__proto__": {"reached": 1}}',
  ]) {
    const region = { version: 1, text }
    assert.throws(() => loadConfig({ region, environment: {} }), /__proto__: no such key/, text)
    assert.throws(() => loadConfig({ file: { name: 'pando.yaml', text }, environment: {} }), /no such key/)
    assert.equal(Reflect.get({}, 'reached'), undefined)
  }
})

test('what counts at once is marked in the schema', () => {
  for (const key of ['qos.planInterval', 'qos.tenantWeights.batch', 'qos.concurrency.limit']) {
    assert.equal(isHot(key), true, key)
  }
  for (const key of ['qos.enabled', 'qos.trackedNames', 'store.cache', 's3.listen', 'unknown.key']) {
    assert.equal(isHot(key), false, key)
  }
})

test("a version lies over the node's file, and under its environment", () => {
  const file = { name: 'pando.yaml', text: 'store: {cache: 1MiB, pool: 32MiB}\nlog: {level: error}\n' }
  const region = { version: 4, text: 'store: {cache: 2MiB}\nlog: {level: debug}\n' }
  const config = loadConfig({ file, region, environment: { PANDO_LOG_LEVEL: 'warn' } })
  assert.deepEqual([config.store.cache, config.store.pool], [2 << 20, 32 << 20])
  assert.equal(config.log.level, 'warn')
  assert.throws(
    () => loadConfig({ file, region: { version: 5, text: 'log: {level: loud}' }, environment: {} }),
    refusal(
      'INVALID_CONFIG',
      /pando.yaml together with version 5 of the region's configuration is not valid:\n {2}log.level/,
    ),
  )
})

async function openNode(t: TestContext) {
  const dataPath = await mkdtemp(join(tmpdir(), 'pando-region-config-'))
  t.after(() => rm(dataPath, { recursive: true, force: true }))
  const catalog = createDirectCatalog({
    tables: new MemoryTables(),
    environment: seededEnvironment(3),
    regionId: 1,
  })
  let fileText = 'store: {cache: 1MiB}\n'
  let refresh = async (): Promise<boolean> => false
  const problems = new Map<string, string>()
  const read = (region?: { version: number; text: string }) =>
    loadConfig({ file: { name: 'pando.yaml', text: fileText }, region, environment: {} })
  const start = (taken?: Awaited<ReturnType<typeof readTakenVersion>>) => {
    const config = read(taken)
    const qos = openQos({ config: config.qos, environment: realEnvironment, log: silentLogger })
    const inForce = openConfigInForce({
      ...{ config, dataPath, taken, catalog, qos, log: silentLogger, clock: realEnvironment.clock },
      readConfig: async (layer) => read(layer),
      refreshCertificate: () => refresh(),
      health: {
        report: (problem, sentence) => void problems.set(problem, sentence),
        clear: (problem) => void problems.delete(problem),
      },
    })
    const stop = async (): Promise<void> => {
      await inForce.region.close()
      qos.close()
    }
    t.after(stop)
    return { ...inForce, stop }
  }
  const own = async (node: ReturnType<typeof start>): Promise<NodeConfigState | undefined> =>
    (await node.region.state()).nodes[0]
  return {
    ...{ dataPath, catalog, problems, start, own },
    setFile: (text: string) => {
      fileText = text
    },
    setRefresh: (next: typeof refresh) => {
      refresh = next
    },
  }
}

const version = (base: number, text: string) => ({ base, text, author: 'ann', comment: '' })

test('a node takes at once what it can, has the rest after a restart, and says which', async (t) => {
  const { dataPath, start, own } = await openNode(t)
  const node = start()
  const text = 'qos: {tenantWeights: {batch: 2}}\nstore: {cache: 3MiB}\n'
  const state = await node.region.apply(version(0, text))
  assert.deepEqual(state.nodes, [{ node: 'node-1', version: 1, afterRestart: ['store.cache'], problem: '' }])
  const taken = await readTakenVersion(dataPath)
  assert.deepEqual([taken?.version, taken?.text], [1, text])
  // Reading the file again does not take the region's part away.
  assert.deepEqual(await node.reload(), { applied: [], afterRestart: ['store.cache'] })
  await node.stop()
  const again = start(taken)
  assert.deepEqual(await own(again), { node: 'node-1', version: 1, afterRestart: [], problem: '' })
})

test('a version that comes while the file is read again is in force behind it', async (t) => {
  const { catalog, start, own, setRefresh } = await openNode(t)
  const node = start()
  let goOn: () => void = assert.fail
  const held = new Promise<boolean>((resolve) => (goOn = () => resolve(false)))
  const asked = new Promise<void>((resolve) =>
    setRefresh(() => {
      resolve()
      return held
    }),
  )
  const reloading = node.reload()
  await asked
  const applying = node.region.apply(version(0, 'qos: {planInterval: 777ms}\n'))
  while (catalog.regionConfigVersion() === 0) await new Promise((resolve) => setTimeout(resolve, 5))
  // It looks twice a second.
  await new Promise((resolve) => setTimeout(resolve, 1_100))
  goOn()
  await reloading
  await applying
  assert.equal((await own(node))?.version, 1)
  assert.equal(node.current().qos.planInterval, 777)
})

test('a wrong value becomes no version', async (t) => {
  const { catalog, start } = await openNode(t)
  const node = start()
  for (const [text, told] of [
    ['qos: {planInterval: soon}', /qos.planInterval/],
    ['qos: {planInterwal: 1s}', /did you mean 'planInterval'/],
    ['data: /elsewhere', /data: each node has its own/],
    ['qos: [', /not valid YAML/],
    [
      'qos: {classes: {only: {weight: 1}}, defaultClass: only}',
      /classes are added and removed by a restart only|qos/,
    ],
  ] as const) {
    await assert.rejects(node.region.apply(version(0, text)), refusal('INVALID_CONFIG', told))
  }
  assert.equal(catalog.regionConfigVersion(), 0)
  await node.region.apply(version(0, ''))
  await assert.rejects(node.region.apply(version(0, '')), refusal('CONFLICT', /version 1/))
})

test('a node that cannot take a version says so, keeps what it has, and takes a later one', async (t) => {
  const { catalog, problems, start, own } = await openNode(t)
  const node = start()
  await node.region.apply(version(0, 'store: {cache: 3MiB}'))
  // Past the check of this node: another one took it, whose file allows it.
  await catalog.submit({ type: 'set-region-config', ...version(1, 'store: {cache: nothing}') })
  const until = async (what: string, holds: () => boolean): Promise<void> => {
    for (let tried = 0; !holds(); tried++) {
      assert.ok(tried < 500, what)
      await realEnvironment.clock.sleep(10)
    }
  }
  await until('nobody is told', () => problems.has('config'))
  assert.match(problems.get('config') ?? '', /version 2 .* cannot be taken here: .*\n {2}store.cache/s)
  const refused = await own(node)
  assert.equal(refused?.version, 1)
  assert.match(refused?.problem ?? '', /store.cache/)
  await node.region.apply(version(2, 'store: {cache: 4MiB}'))
  assert.equal(problems.has('config'), false)
  assert.deepEqual((await own(node))?.problem, '')
})

test('a node takes a version that has another text than the one of that number which it had', async (t) => {
  const { dataPath, catalog, start, own } = await openNode(t)
  // The region was recovered without the entry, and has given its number again.
  const text = 'qos: {planInterval: 777ms}\n'
  await catalog.submit({ type: 'set-region-config', ...version(0, text) })
  const node = start({ version: 1, text: 'qos: {planInterval: 888ms}\n', hash: '0'.repeat(64) })
  assert.equal(node.current().qos.planInterval, 888)
  for (let tried = 0; (await readTakenVersion(dataPath))?.text !== text; tried++) {
    assert.ok(tried < 500, 'it keeps what it had')
    await realEnvironment.clock.sleep(10)
  }
  assert.equal(node.current().qos.planInterval, 777)
  assert.equal(node.region.layer()?.text, text)
  assert.deepEqual(await own(node), { node: 'node-1', version: 1, afterRestart: [], problem: '' })
})
