// What asking for admission costs: one ticket in this process, and a whole GET of 4 KiB with and without QoS, in
// turn on one node (node.ts), in processor time, since times on a busy machine mean nothing. Usage: npm run bench -- qos
// [--rounds N] [--requests N]
import { fork } from 'node:child_process'
import { randomFillSync } from 'node:crypto'
import { once } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import type { AdmissionRequest } from '../../../core/contract/admission.ts'
import { silentLogger } from '../../../core/contract/logger.ts'
import { openQos, type Qos } from '../../../core/qos/open-qos.ts'
import { qosConfig } from '../../kit/qos-bench.ts'
import { describeMachine, formatTable, median } from '../machine.ts'
import { presigner } from '../s3/presign.ts'
import { prepareBench, workloads } from '../s3/workloads.ts'
import { openGetLoad } from './get-load.ts'
import type { BenchEndpoints, BenchQuestion, BenchUse, Side } from './node.ts'
import { medianWithBounds } from './paired-rounds.ts'

const { values: options } = parseArgs({
  options: { rounds: { type: 'string', default: '200' }, requests: { type: 'string', default: '500' } },
})
const rounds = Number(options.rounds)
/** Of one side in one round. */
const requests = Number(options.requests)

const environment = {
  clock: {
    now: () => Date.now(),
    monotonic: () => performance.now(),
    sleep: (delayMs: number, signal?: AbortSignal) =>
      delay(delayMs, undefined, signal === undefined ? {} : { signal }),
  },
  randomness: { fill: (target: Uint8Array) => randomFillSync(target) },
}

function open(section: unknown): Qos {
  return openQos({ config: qosConfig(section), environment, log: silentLogger })
}

/** Of each side, before anything counts: compilers are done by then, and a policy's version is no longer measured as a new one. */
const warmRequests = 70_000
const timedRounds = 20

const names = ['a', 'b']
let made = 0
function request(index: number, tenants: number): AdmissionRequest {
  return {
    id: `5F3A${made++}`,
    operation: 'read',
    byteLength: -1,
    tenant: names[index % tenants] ?? 'a',
    accessKeyId: 'AKIAEXAMPLE',
    bucket: 'bench',
    key: 'get-4k/1234',
    header: () => undefined,
    isWaitingForClient: () => false,
  }
}

let sink = 0
const empty = (count: number): void => {
  for (let index = 0; index < count; index++) sink += request(index, 1).byteLength
}

function direct(section: unknown, tenants: number): { run(count: number): void; close(): void } {
  const qos = open(section)
  return {
    run(count) {
      for (let index = 0; index < count; index++) qos.admission.admit(request(index, tenants)).end(0, 4096)
    },
    close: () => qos.close(),
  }
}

/** Every request waits for the one before it: the whole way through the queue, its promise included. */
function queued(): { run(count: number): Promise<void>; close(): void } {
  const qos = open({ concurrency: { limit: 1 } })
  return {
    async run(count) {
      let running = qos.admission.admit(request(0, 2))
      for (let index = 1; index < count; index++) {
        const next = qos.admission.admit(request(index, 2))
        running.end(0, 4096)
        await next.turn
        running = next
      }
      running.end(0, 4096)
    },
    close: () => qos.close(),
  }
}

async function cpuNanoseconds(run: (count: number) => void | Promise<void>): Promise<number> {
  const count = 100_000
  await run(count)
  const samples: number[] = []
  for (let round = 0; round < 7; round++) {
    const before = process.cpuUsage()
    await run(count)
    const { user, system } = process.cpuUsage(before)
    samples.push(((user + system) * 1000) / count)
  }
  return Math.min(...samples)
}

console.log('processor time of one ticket (least of 7 rounds of 100,000)')
const baseline = await cpuNanoseconds(empty)
const ticketRows: string[][] = []
const budgets = [
  { tenant: '*', requests: 1e9, bytesOut: 1e12 },
  { bucket: '*', requests: 1e9 },
]
for (const [name, what] of [
  ['one tenant, no budgets', direct({}, 1)],
  ['two tenants', direct({}, 2)],
  ['two tenants, three budgets each', direct({ budgets }, 2)],
  ['through the queue', queued()],
] as const) {
  ticketRows.push([name, `${((await cpuNanoseconds(what.run)) - baseline).toFixed(0)} ns`])
  what.close()
}
console.log(formatTable(['', 'ticket'], ticketRows))

const [get] = workloads.filter(({ name }) => name === 'get-4k')
if (get === undefined || Number.isNaN(sink)) throw new Error('the workload get-4k is gone')

const node = fork('dist/test/bench/qos/node.js')
const gone = once(node, 'exit').then(() => Promise.reject(new Error('the node of the benchmark has ended')))
async function hear<Message>(): Promise<Message> {
  const [message] = await Promise.race([once(node, 'message'), gone])
  return message
}
async function ask(question: BenchQuestion): Promise<BenchUse> {
  const answer = hear<BenchUse>()
  node.send(question)
  return answer
}

const sides = ['without', 'rules', 'policies'] as const
const titles = { without: 'no QoS', rules: 'QoS by its own rules', policies: 'QoS with the default policies' }
try {
  const { urls, accessKeyId: accessKey, secretKey } = await hear<BenchEndpoints>()
  const bytes = (): number => 0
  const peer = {
    name: 'node',
    url: urls.without,
    accessKey,
    secretKey,
    residentBytes: bytes,
    anonymousBytes: bytes,
  }
  await prepareBench({ ...peer, [Symbol.asyncDispose]: async () => undefined }, [get])
  const load = async (side: Side) => {
    const signer = presigner({ url: urls[side], accessKey, secretKey }, new Date())
    const paths = Array.from({ length: get.objects }, (_, index) =>
      signer.sign('GET', 'bench', `${get.name}/${index}`),
    )
    return openGetLoad(urls[side], paths, get.connections, get.objectBytes)
  }
  const loads = {
    without: await load('without'),
    rules: await load('rules'),
    policies: await load('policies'),
  }
  const perRequest: Record<Side, number[]> = { without: [], rules: [], policies: [] }
  const warm = Math.ceil(warmRequests / requests)
  for (let round = -warm; round < rounds; round++) {
    for (let turn = 0; turn < sides.length; turn++) {
      const side = sides[(turn + round + warm) % sides.length] ?? 'without'
      const before = await ask('use')
      await loads[side].run(requests)
      const after = await ask('use')
      if (round >= 0) perRequest[side].push((after.cpuUs - before.cpuUs) / requests)
    }
  }
  await ask('start')
  for (let round = 0; round < timedRounds; round++) {
    await loads.rules.run(requests)
    await loads.policies.run(requests)
  }
  const { admissionUs } = await ask('stop')
  for (const { close } of Object.values(loads)) close()
  const { deciders } = await ask('use')
  if (/and (fallback|undefined)/.test(deciders['policies'] ?? 'undefined')) {
    throw new Error(`the default policies do not decide: ${deciders['policies']}`)
  }
  console.log(
    `\nprocessor time of a GET of 4 KiB over HTTP, ${rounds} rounds of ${requests} requests of each side, one process`,
  )
  console.log(
    formatTable(
      ['', 'us, median'],
      sides.map((side) => [titles[side], median(perRequest[side]).toFixed(1)]),
    ),
  )
  const compare = (more: Side, less: Side): readonly string[] => {
    const ratios = perRequest[more].map((us, round) => us / (perRequest[less][round] ?? Number.NaN) - 1)
    const { middle, low, high } = medianWithBounds(ratios)
    const percent = (part: number): string => `${(part * 100).toFixed(1)} %`
    const us = (middle * median(perRequest[less])).toFixed(1)
    return [
      `${titles[more]} over ${titles[less]}`,
      percent(middle),
      `${percent(low)} to ${percent(high)}`,
      us,
    ]
  }
  console.log(
    `\n${formatTable(
      ['round by round', 'more, median', '95 % interval', 'us'],
      [compare('policies', 'rules'), compare('rules', 'without'), compare('policies', 'without')],
    )}`,
  )
  const inside = {
    rules: admissionUs['rules'] ?? Number.NaN,
    policies: admissionUs['policies'] ?? Number.NaN,
  }
  const ofGet = (us: number): string =>
    `${us.toFixed(2)} us, ${((us / median(perRequest.without)) * 100).toFixed(1)} % of a GET`
  console.log(
    `\nspent inside admission, median of ${timedRounds * requests} requests of each side: by the rules ${ofGet(inside.rules)}; ` +
      `with the policies ${ofGet(inside.policies)}: they add ${ofGet(inside.policies - inside.rules)}`,
  )
  console.log(`decided by ${deciders['policies']}`)
  console.log(JSON.stringify(describeMachine()))
} finally {
  gone.catch(() => undefined)
  node.disconnect()
}
