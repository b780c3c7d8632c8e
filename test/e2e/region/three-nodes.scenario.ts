import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { isDeepStrictEqual } from 'node:util'
import { openClockShifts } from '../../kit/clock-shift/clock-shift.ts'
import { checkScrape } from '../../kit/metrics-table.ts'
import { openOtlpReceiver } from '../../kit/otlp-receiver.ts'
import { callerAddress } from '../../kit/region/hosts.ts'
import type { RegionNode } from '../../kit/region/region.ts'
import { seededBytes } from '../../kit/seeded-bytes.ts'
import { checkAdminCalls, reachableConsole } from './admin-calls.ts'
import { bucket, clusterStatus, openStage, outageMs, roundsOf, say, until } from './scenario.ts'
import { checkTraces } from './trace-of-a-put.ts'

/** Three nodes: what one takes the others serve; they are changed by hand; each of them is killed, frozen and cut off while clients go on. */
await using receiver = await openOtlpReceiver('0.0.0.0')
const endpoint = `http://${callerAddress}:${receiver.port}`
using shifts = openClockShifts()
const clockOfThree = shifts.clock('n3')
await using stage = await openStage({
  nodes: ['n1', 'n2', 'n3'],
  environment: { n3: clockOfThree.environment },
  config: { telemetry: { traces: { endpoint } }, console: reachableConsole },
})
const { region } = stage
const [one, two, three] = region.nodes
assert.ok(one && two && three)

for (const byteLength of [0, 100, 100_000, 9_000_000]) {
  const body = seededBytes(`size ${byteLength}`, 0, byteLength)
  const put = await one.client.send({ method: 'PUT', bucket, key: `plain/${byteLength}`, body })
  assert.equal(put.status, 200, `${put.body}`)
  for (const node of region.nodes) {
    const got = await node.client.send({ method: 'GET', bucket, key: `plain/${byteLength}` })
    assert.equal(got.status, 200, `${node.name}: ${got.body}`)
    assert.ok(got.body.equals(body), `${node.name} serves other bytes than were put at ${one.name}`)
  }
}
await checkWrongClock()
const versionFile = join(dirname(one.dataDirectory), 'region.yaml')
await writeFile(versionFile, 'qos: {tenantWeights: {batch: 2}}\nmaintenance: {collectInterval: 7s}\n')
const applied = await one.command('config', 'apply', versionFile, '--comment', 'for all', '--json')
assert.equal(applied.code, 0, applied.stderr)
const needsRestart = { version: 1, afterRestart: ['maintenance.collectInterval'], problem: '' }
assert.deepEqual(configStates(applied.stdout), [needsRestart, needsRestart, needsRestart])
await writeFile(versionFile, 'qos: {planInterval: never}\n')
const wrong = await two.command('config', 'apply', versionFile)
assert.match(wrong.stderr, /qos.planInterval/, 'a wrong value becomes no version')
say('a configuration applied at one node is in force at three')
const create = { method: 'PUT', bucket, key: 'only-one', headers: { 'if-none-match': '*' } }
const winners = await Promise.all(
  region.nodes.map(async ({ client }, index) => (await client.send({ ...create, body: `${index}` })).status),
)
assert.deepEqual(winners.toSorted(), [200, 412, 412], 'of three who create the same key one wins')
let scrape = ''
// More than once: on a busy machine a node may not be heard for a moment.
await until('a scrape tells that all is well', async () => {
  scrape = metricsOf(one)
  const lines = ['writable 1', 'voters_up 3', 'node_up{node="n3"} 1', 'lost_chunks 0']
  return lines.every((line) => scrape.includes(`pando_cluster_${line}\n`))
}).catch((reason: unknown) => assert.fail(`${String(reason)}\n${scrape}`))
checkScrape(scrape)
await checkTraces(region, receiver)
say('what one gateway takes, all serve; of three conditional creates at three gateways one wins')
await stage.under('nodes, copies and configuration are changed', () => checkAdminCalls(region, 1), 0)

for (const node of region.nodes) {
  const others = region.nodes.filter((other) => other !== node).map(({ client }) => client)
  const gapMs = await stage.under(`kill -9 of ${node.name} and its NATS server`, async () => {
    stage.load.setGateways(others)
    await node.kill()
  })
  assert.ok(gapMs < outageMs, `no service for ${gapMs} ms after the death of ${node.name}`)
  const beganMs = performance.now()
  await node.start()
  say(`${node.name} serves again ${Math.round(performance.now() - beganMs)} ms after its start`)
}
for (const node of region.nodes.slice(0, roundsOf(1))) {
  const others = region.nodes.filter((other) => other !== node).map(({ client }) => client)
  const gapMs = await stage.under(`${node.name} frozen for 5 s`, async () => {
    stage.load.setGateways(others)
    node.setPaused(true)
    await sleep(5000)
    node.setPaused(false)
  })
  assert.ok(gapMs < outageMs, `no service for ${gapMs} ms while ${node.name} stood still`)
}
const cutMs = await stage.under(`${two.name} cut off for 5 s`, async () => {
  stage.load.setGateways([one.client, three.client])
  two.host.setCable(false)
  await sleep(5000)
  two.host.setCable(true)
})
assert.ok(cutMs < outageMs, `no service for ${cutMs} ms while ${two.name} was cut off`)
const oneWayMs = await stage.under(`${one.name} cannot send to ${three.name} for 5 s`, async () => {
  stage.load.setGateways([two.client])
  one.host.stopSendingTo(three.host)
  await sleep(5000)
  one.host.sendAgainTo(three.host)
})
assert.ok(oneWayMs < outageMs, `no service for ${oneWayMs} ms with a line broken in one direction`)

let notWhole: readonly object[] = []
await until(
  'all nodes are whole again',
  async () => {
    const reports = await Promise.all(region.nodes.map(clusterStatus))
    notWhole = reports.filter(({ isSafe, repair }) => !isSafe || repair.missing > 0)
    return notWhole.length === 0
  },
  60_000,
).catch((reason: unknown) => assert.fail(`${String(reason)}\n${JSON.stringify(notWhole, undefined, 2)}`))
await stage.verify()

// Each was started again since: what needed that counts now.
const inForce = { version: 3, afterRestart: [], problem: '' }
let history = ''
await until('version 3 is in force at all', async () => {
  history = (await three.command('config', 'history', '--json')).stdout
  return isDeepStrictEqual(configStates(history), [inForce, inForce, inForce])
}).catch((reason: unknown) => assert.fail(`${String(reason)}: ${history}`))
await Promise.all(region.nodes.map((node) => node.kill()))
const beganMs = performance.now()
await region.startAll()
say(`all three killed at once and started again: serving after ${Math.round(performance.now() - beganMs)} ms`)
await stage.verify()
for (const node of region.nodes) await node.stop()
say('all three stop in order')

/** What comes to a gateway whose clock is days ahead has the time of the region, and so has what is written after it. */
async function checkWrongClock(): Promise<void> {
  assert.ok(one && two && three)
  const policy = JSON.stringify({
    Version: '2012-10-17',
    Statement: [
      { Effect: 'Allow', Principal: '*', Action: 's3:PutObject', Resource: `arn:aws:s3:::${bucket}/anybody` },
    ],
  })
  const allowed = await one.client.send({ method: 'PUT', bucket, query: { policy: '' }, body: policy })
  assert.equal(allowed.status, 204, `${allowed.body}`)
  await clockOfThree.set(3 * 86_400_000)
  // Whoever signs with the right time is refused there.
  const anybodys = { method: 'PUT', bucket, key: 'anybody', body: 'x', anonymous: true }
  assert.equal((await three.client.send(anybodys)).status, 200)
  assert.equal((await two.client.send({ method: 'PUT', bucket, key: 'after', body: 'x' })).status, 200)
  await clockOfThree.set(0)
  for (const key of ['anybody', 'after']) {
    const { headers } = await one.client.send({ method: 'HEAD', bucket, key })
    const aheadMs = Date.parse(String(headers['last-modified'])) - Date.now()
    assert.ok(Math.abs(aheadMs) < 60_000, `${key} was written ${aheadMs} ms from now`)
  }
  const closed = await one.client.send({ method: 'DELETE', bucket, query: { policy: '' } })
  assert.equal(closed.status, 204, `${closed.body}`)
  say('a gateway whose clock is three days ahead writes with the time of the others')
}

/** How each node stands to the region's configuration. */
function configStates(text: string): readonly object[] {
  const { nodes, silent } = JSON.parse(text) as { nodes: { node: string }[]; silent: readonly string[] }
  assert.deepEqual(silent, [])
  assert.deepEqual(nodes.map(({ node }) => node).toSorted(), ['n1', 'n2', 'n3'])
  return nodes.map(({ node: _, ...state }) => state)
}

/** Asked from where the node is: its metrics are for its own machine. */
function metricsOf({ host }: RegionNode): string {
  const [program = '', ...prefix] = host.prefix
  const ask =
    "fetch('http://127.0.0.1:9002/metrics').then((got) => got.text()).then((text) => process.stdout.write(text))"
  const { status, stdout, stderr } = spawnSync(program, [...prefix, process.execPath, '-e', ask], {
    encoding: 'utf8',
    timeout: 20_000,
  })
  assert.equal(status, 0, stderr)
  return stdout
}
