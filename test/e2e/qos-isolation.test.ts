import assert from 'node:assert/strict'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { presigner } from '../bench/s3/presign.ts'
import type { HeadLoad, HeadReport } from '../kit/head-load.ts'
import { type NodeProcess, runCommand, startNode } from '../kit/node-process.ts'

/**
 * A whole node under the load of several accounts. That a limit is not passed holds on a machine that is busy with other
 * things, and is asserted; what needs the machine for itself (latency, shares, rates from below) is printed, and asserted in
 * the large run: PANDO_QOS_SECONDS=10 or more. The same is asserted on a virtual clock in test/unit/qos.
 */
const seconds = Number(process.env['PANDO_QOS_SECONDS'] ?? 2)
const isLarge = seconds >= 10

const tenants = ['greedy', 'm1', 'm2', 'm3', 'm4', 'm5', 'capped', 'batch'] as const
type Tenant = (typeof tenants)[number]
const cappedRate = 200
const reservedRate = 150

const common = {
  rules: [{ class: 'bulk', tenant: 'batch' }],
  classes: { bulk: { weight: 1, reservation: reservedRate }, interactive: { weight: 100 } },
  budgets: [{ tenant: 'capped', requests: cappedRate }],
}

interface Subject {
  readonly node: NodeProcess
  readonly paths: ReadonlyMap<Tenant, string>
}

let fair: Subject
let plain: Subject

before(async () => {
  fair = await startSubject({ qos: common })
  plain = await startSubject({ qos: { enabled: false } })
})

after(async () => {
  await fair.node[Symbol.asyncDispose]()
  await plain.node[Symbol.asyncDispose]()
})

async function startSubject(
  config: Readonly<Record<string, Readonly<Record<string, unknown>>>>,
): Promise<Subject> {
  const node = await startNode({ config })
  const paths = new Map<Tenant, string>()
  for (const tenant of tenants) {
    const made = await node.command('key', 'create', tenant, '--account', tenant, '--json')
    assert.equal(made.code, 0, made.stderr)
    const { accessKeyId: accessKey, secretKey } = JSON.parse(made.stdout)
    const signer = presigner({ url: node.endpoint, accessKey, secretKey }, new Date())
    const bucket = `of-${tenant}`
    for (const path of [signer.sign('PUT', bucket), signer.sign('PUT', bucket, 'object')]) {
      const answer = await fetch(`${node.endpoint}${path}`, {
        method: 'PUT',
        headers: { 'content-length': '0' },
      })
      assert.equal(answer.status, 200, await answer.text())
    }
    paths.set(tenant, signer.sign('HEAD', bucket, 'object'))
  }
  return { node, paths }
}

/** One client process for all, so that a busy machine holds all of them up alike. */
async function run(
  { node, paths }: Subject,
  forSeconds: number,
  groups: readonly (readonly [Tenant, number])[],
): Promise<ReadonlyMap<Tenant, HeadReport>> {
  const load: HeadLoad = {
    host: node.host,
    port: node.port,
    seconds: forSeconds,
    warmSeconds: Math.min(1, forSeconds / 2),
    groups: groups.map(([name, connections]) => ({ name, path: paths.get(name) ?? '', connections })),
  }
  const program = join(import.meta.dirname, '../kit/head-load.js')
  const { code, stdout, stderr } = await runCommand(process.execPath, [program, JSON.stringify(load)])
  assert.equal(code, 0, `${stderr}\n${node.logTail()}`)
  const reports: HeadReport[] = JSON.parse(stdout)
  return new Map(reports.map((report) => [report.name as Tenant, report]))
}

/** The best of a few tries: other work on the machine can only make it worse. */
async function bestOf(tries: number, measure: () => Promise<number>): Promise<number> {
  let best = Number.POSITIVE_INFINITY
  for (let attempt = 0; attempt < tries; attempt++) best = Math.min(best, await measure())
  return best
}

const modest = ['m1', 'm2', 'm3', 'm4', 'm5'] as const

test('a greedy account has its share and no more, and the others hardly notice', async () => {
  const rows: string[] = []
  const measure = async (subject: Subject, name: string) => {
    const others = modest.map((tenant) => [tenant, 6] as const)
    const quiet = await run(subject, seconds, [['greedy', 6], ...others])
    const loud = await run(subject, seconds, [['greedy', 60], ...others])
    const p99 = (reports: ReadonlyMap<Tenant, HeadReport>) =>
      modest.reduce((sum, tenant) => sum + (reports.get(tenant)?.p99Ms ?? 0), 0) / modest.length
    const all = [...loud.values()].reduce((sum, { completed }) => sum + completed, 0)
    const share = (loud.get('greedy')?.completed ?? 0) / all
    const moved = p99(loud) / p99(quiet) - 1
    rows.push(
      `${name.padEnd(12)} | ${p99(quiet).toFixed(1).padStart(8)} | ${p99(loud).toFixed(1).padStart(9)} | ` +
        `${(moved * 100).toFixed(0).padStart(5)} % | ${(share * 100).toFixed(1).padStart(5)} % | ${(all / seconds).toFixed(0)}/s`,
    )
    return { share, moved }
  }
  const without = await measure(plain, 'without QoS')
  let best = { share: 1, moved: Number.POSITIVE_INFINITY }
  await bestOf(isLarge ? 3 : 2, async () => {
    const result = await measure(fair, 'with QoS')
    if (result.moved < best.moved) best = result
    return result.moved
  })
  console.log('             | p99 of the others, ms:    |         | share of  |')
  console.log('             | at 1x    | at 10x    | moved   | greedy    | all')
  console.log(rows.join('\n'))
  if (!isLarge) return
  assert.ok(without.share > 0.5, `without QoS the greedy one takes what it can: ${without.share}`)
  // An even share is a sixth.
  assert.ok(best.share < 0.25, rows.join('\n'))
  assert.ok(best.moved < 0.2, rows.join('\n'))
})

test('a limit is not passed, and is reached', async () => {
  const off = await bestOf(isLarge ? 3 : 1, async () => {
    const { completed, shed } = (await run(fair, seconds, [['capped', 20]])).get('capped') ?? {}
    const rate = (completed ?? 0) / seconds
    console.log(`limit ${cappedRate}/s: ${rate.toFixed(1)}/s over ${seconds} s, ${shed} shed`)
    // What the burst of 100 ms may add, and one request at either end.
    assert.ok(rate <= cappedRate * (1 + 0.1 / seconds) + 2 / seconds, `${rate}`)
    return Math.abs(rate / cappedRate - 1)
  })
  if (isLarge) assert.ok(off <= 0.02, `${off}`)
})

test('a reservation is met while others ask for everything', async () => {
  const missing = await bestOf(3, async () => {
    const reports = await run(fair, seconds, [
      ['greedy', 100],
      ['batch', 20],
    ])
    const rate = (reports.get('batch')?.completed ?? 0) / seconds
    const crowd = (reports.get('greedy')?.completed ?? 0) / seconds
    console.log(
      `reservation ${reservedRate}/s of weight 1 beside weight 100: ${rate.toFixed(1)}/s, the crowd ${crowd.toFixed(0)}/s`,
    )
    return 1 - rate / reservedRate
  })
  if (isLarge) assert.ok(missing <= 0.05, `${missing}`)
})

test('metrics tell what happened', async () => {
  const text = await (await fetch(`${fair.node.consoleUrl}/metrics`)).text()
  assert.match(text, /pando_qos_admitted_total\{class="interactive"\} [1-9]/)
  assert.match(text, /pando_qos_delayed_total\{class="interactive"\} [1-9]/)
  assert.match(text, /pando_qos_tenant_requests_total\{tenant="greedy",outcome="admitted"\} [1-9]/)
  assert.match(text, /pando_qos_queue_seconds_count\{class="interactive"\} [1-9]/)
  assert.match(text, /pando_qos_concurrency_limit [1-9]/)
})
