import assert from 'node:assert/strict'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import test from 'node:test'
import { type NodeProcess, runCommand } from '../kit/node-process.ts'
import { openRegionClient, pando, startRegionOfOne } from '../kit/region-of-one.ts'
import { parsePytestReport } from './pytest-report.ts'
import { missing } from './workspace.ts'

/** Two real regions: S3's own replication calls by boto3, and what the metrics say while nothing, something and too much happens. */

const python = '/usr/bin/python3'
const cases = resolve(import.meta.dirname, '../../../test/e2e/boto3-regions')
const boto3 = '/usr/lib/python3/dist-packages/boto3/__init__.py'
const pytest = '/usr/lib/python3/dist-packages/pytest/__init__.py'

/** One number of a scrape. */
async function metric(node: NodeProcess, name: string, labels: string): Promise<number> {
  const text = await (await fetch(`${node.consoleUrl}/metrics`)).text()
  const line = text.split('\n').find((one) => one.startsWith(`pando_replication_${name}{${labels}}`))
  assert.ok(line !== undefined, `${name}{${labels}} is in\n${text}`)
  return Number(line.slice(line.lastIndexOf(' ') + 1))
}

async function until(what: string, probe: () => Promise<boolean>): Promise<void> {
  for (let tries = 0; !(await probe()); tries++) {
    assert.ok(tries < 300, what)
    await new Promise((wait) => setTimeout(wait, 100))
  }
}

test('replication by S3 and in the metrics', { timeout: 180_000 }, async (t) => {
  const [one, two] = await Promise.all([startRegionOfOne(t, 1), startRegionOfOne(t, 2)])
  await pando(two, 'federation', 'join', await pando(one, 'federation', 'invite', '--for', '2'))

  await t.test('by boto3', { skip: missing(python, boto3, pytest) }, async (t) => {
    const directory = await mkdtemp(join(tmpdir(), 'pando-boto3-'))
    t.after(() => rm(directory, { recursive: true, force: true }))
    const report = join(directory, 'report.xml')
    const outcome = await runCommand(
      python,
      ['-m', 'pytest', '-q', '-p', 'no:cacheprovider', `--rootdir=${cases}`, `--junitxml=${report}`, cases],
      {
        env: {
          ...process.env,
          AWS_ACCESS_KEY_ID: one.accessKey,
          AWS_SECRET_ACCESS_KEY: one.secretKey,
          PANDO_TEST_ENDPOINT: one.endpoint,
          PANDO_TEST_OTHER: two.endpoint,
          PYTHONDONTWRITEBYTECODE: '1',
        },
        cwd: directory,
      },
    )
    const results = parsePytestReport(await readFile(report, 'utf8'))
    assert.equal(results.length, 4, `${outcome.stdout}\n${outcome.stderr}`)
    for (const result of results) {
      await t.test(result.name, () => {
        assert.equal(
          result.outcome,
          'passed',
          `${result.message}\n${result.detail.slice(-4000)}\n${one.logTail()}\n${two.logTail()}`,
        )
      })
    }
  })

  const client = openRegionClient(t, one, 1)
  const put = async (key: string): Promise<void> => {
    assert.equal((await client.send({ method: 'PUT', bucket: 'gauged', key, body: 'x' })).status, 200)
  }
  const to = 'bucket="gauged",region="2"'
  const lag = (): Promise<number> => metric(one, 'lag_seconds', to)
  assert.equal((await client.send({ method: 'PUT', bucket: 'gauged' })).status, 200)
  await pando(one, 'replication', 'set', 'gauged', '--to', '2', '--rpo', '1s', '--on-breach', 'throttle')

  await t.test('the lag is 0 when nothing is written (T9)', async () => {
    await put('first')
    await until('the copy is even', async () => (await metric(one, 'rpo_met', 'bucket="gauged"')) === 1)
    await until('nothing is lacking', async () => (await lag()) === 0)
    await new Promise((wait) => setTimeout(wait, 1500))
    assert.equal(await lag(), 0)
    assert.equal(await metric(one, 'lag_entries', to), 0)
    assert.equal(await metric(one, 'rpo_target_seconds', 'bucket="gauged"'), 1)
    assert.equal(await metric(two, 'dead_letters', 'bucket="gauged",source="1"'), 0)
  })

  await t.test('it grows when the other region stands still, and writers are held back', async (t) => {
    process.kill(two.pid, 'SIGSTOP')
    t.after(() => two.running && process.kill(two.pid, 'SIGCONT'))
    await put('second')
    await until('the objective is missed', async () => (await lag()) > 1)
    assert.equal(await metric(one, 'lag_entries', to), 1)
    assert.equal(await metric(one, 'rpo_met', 'bucket="gauged"'), 0)
    await until(
      'writers are held back',
      async () => (await metric(one, 'write_hold_seconds', 'bucket="gauged"')) === 1,
    )
    const began = performance.now()
    await put('third')
    assert.ok(performance.now() - began >= 990, 'a write waits')
    assert.match((await one.command('replication', 'status')).stdout, /behind the objective of 1s/)
  })

  await t.test('it grows while the other region is down, and is 0 when it is back', async () => {
    await two.kill()
    // What it lacked it may have got before it died: it went on when the test above ended.
    await put('fourth')
    const before = await lag()
    await until('the lag grows', async () => (await lag()) > before + 0.5)
    await two.start()
    await until('nothing is lacking', async () => (await lag()) === 0)
    await until(
      'writers go on',
      async () => (await metric(one, 'write_hold_seconds', 'bucket="gauged"')) === 0,
    )
    assert.equal(await metric(one, 'rpo_met', 'bucket="gauged"'), 1)
    assert.ok((await metric(two, 'applied_entries_total', 'source="1"')) > 0)
  })
})
