// What asking for admission costs: one ticket in this process, and a whole GET of 4 KiB with and without QoS on two nodes in
// the same run, in processor time, since times on a busy machine mean nothing. Usage: npm run bench -- qos [--rounds N]
// [--seconds N]
import { randomFillSync } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import type { AdmissionRequest } from '../../../core/contract/admission.ts'
import { silentLogger } from '../../../core/contract/logger.ts'
import { openQos, type Qos } from '../../../core/qos/open-qos.ts'
import { qosConfig } from '../../kit/qos-bench.ts'
import { describeMachine, formatTable, median } from '../machine.ts'
import { type PandoPeer, startPando } from '../s3/pando.ts'
import { prepareBench, workloads } from '../s3/workloads.ts'

const { values: options } = parseArgs({
  options: { rounds: { type: 'string', default: '5' }, seconds: { type: 'string', default: '3' } },
})
const rounds = Number(options.rounds)
const seconds = Number(options.seconds)

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

const workload = workloads.filter(({ name }) => name === 'get-4k')
const [get] = workload
if (get === undefined || Number.isNaN(sink)) throw new Error('the workload get-4k is gone')
const peers: Record<'with' | 'without', PandoPeer> = {
  with: await startPando(),
  without: await startPando({}, 'qos:\n  enabled: false\n'),
}
try {
  const benches = {
    with: await prepareBench(peers.with, workload),
    without: await prepareBench(peers.without, workload),
  }
  const perRequest: Record<'with' | 'without', number[]> = { with: [], without: [] }
  for (let round = 0; round <= rounds; round++) {
    for (const name of round % 2 === 0 ? (['with', 'without'] as const) : (['without', 'with'] as const)) {
      const before = peers[name].cpuSeconds()
      const result = await benches[name].measure(get, round, seconds)
      // The first round only warms up.
      if (round > 0) perRequest[name].push(((peers[name].cpuSeconds() - before) / result.requests) * 1e6)
    }
  }
  const [withQos, without] = [median(perRequest.with), median(perRequest.without)]
  const ratios = perRequest.with.map((value, index) => value / (perRequest.without[index] ?? value))
  console.log(`\nprocessor time of a GET of 4 KiB over HTTP (medians of ${rounds} interleaved rounds)`)
  console.log(
    formatTable(
      ['', 'us per request', 'rounds'],
      [
        ['without QoS', without.toFixed(1), perRequest.without.map((value) => value.toFixed(1)).join(' ')],
        ['with QoS', withQos.toFixed(1), perRequest.with.map((value) => value.toFixed(1)).join(' ')],
      ],
    ),
  )
  console.log(
    `overhead: ${((withQos / without - 1) * 100).toFixed(1)} % of medians, ` +
      `${((median(ratios) - 1) * 100).toFixed(1)} % as median of ratios, ` +
      `${((Math.min(...perRequest.with) / Math.min(...perRequest.without) - 1) * 100).toFixed(1)} % of the least`,
  )
  console.log(JSON.stringify(describeMachine()))
} finally {
  await peers.with[Symbol.asyncDispose]()
  await peers.without[Symbol.asyncDispose]()
}
