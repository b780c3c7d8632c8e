/**
 * An application that keeps reading and writing while the primary of its bucket changes, planned or not: `node
 * dist/sdk/examples/through-failover.js` with PANDO_ENDPOINTS (a gateway of each region, with commas), PANDO_BUCKET (of a failover
 * group), PANDO_ACCESS_KEY, PANDO_SECRET_KEY; until SIGTERM, or for PANDO_SECONDS. It does nothing about failover itself.
 * Prints one line a second, and at the end each change of the primary with how long writes stood still, the errors that it saw (its exit
 * code), and which of the writes that were acknowledged to it are not there any more (none after a planned change).
 */
import { PandoClient, PandoError } from '../index.ts'

const setting = (name: string, otherwise?: string): string => {
  const value = process.env[name] ?? otherwise
  if (value === undefined) throw new Error(`${name} is not set`)
  return value
}

const endpoints = setting('PANDO_ENDPOINTS').split(',')
const client = new PandoClient({
  endpoints: endpoints.map((url, at) => ({ url, group: `region ${at}` })),
  credentials: {
    accessKeyId: setting('PANDO_ACCESS_KEY'),
    secretAccessKey: setting('PANDO_SECRET_KEY'),
  },
  attemptTimeoutMs: 2000,
})
const bucket = setting('PANDO_BUCKET')
const run = Date.now().toString(36)
let isOver = false
process.once('SIGTERM', () => {
  isOver = true
})
const seconds = Number(setting('PANDO_SECONDS', '0'))
if (seconds > 0) setTimeout(() => process.kill(process.pid, 'SIGTERM'), seconds * 1000)

interface Change {
  readonly from: number
  readonly to: number
  readonly epoch: number
  readonly atMs: number
  /** From the last write that was acknowledged before it to the first one after it. */
  readonly pauseMs: number
}
const changes: Change[] = []
const acknowledged = new Map<string, number>()
const seen = { reads: 0, stale: 0, errors: 0 }
let leader = client.primaryOf(bucket)
let lastMs = performance.now()

function noteWrite(key: string): void {
  const atMs = performance.now()
  acknowledged.set(key, atMs)
  const now = client.primaryOf(bucket)
  if (now !== undefined && leader !== undefined && now.epoch > leader.epoch) {
    changes.push({
      ...{ from: leader.region, to: now.region, epoch: now.epoch },
      ...{ atMs, pauseMs: atMs - lastMs },
    })
  }
  leader = now ?? leader
  lastMs = atMs
}

async function counted(work: () => Promise<void>): Promise<void> {
  try {
    await work()
  } catch (error) {
    seen.errors += 1
    console.error(error instanceof PandoError ? `${error.code}: ${error.message}` : error)
  }
}

/** Appends to a log of its own, keeps a counter, and reads the counter back. */
async function worker(name: string): Promise<void> {
  const counter = `${run}/counter/${name}`
  for (let count = 1; !isOver; count++) {
    await counted(async () => {
      const key = `${run}/log/${name}/${count}`
      await client.put(bucket, key, `entry ${count}`)
      noteWrite(key)
      await client.put(bucket, counter, JSON.stringify(count))
    })
    await counted(async () => {
      const value = Number(await (await client.get(bucket, counter)).text())
      seen.reads += 1
      // While nobody leads, a copy answers; and what an unplanned change has lost is older for good.
      if (value < count) seen.stale += 1
    })
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}

const report = setInterval(() => {
  const { epoch = 0, region = 0 } = leader ?? {}
  console.log(
    `${acknowledged.size} writes, ${seen.reads} reads, ${seen.errors} errors; region ${region} writes, epoch ${epoch}`,
  )
}, 1000)
await Promise.all(['a', 'b', 'c', 'd'].map(worker))
clearInterval(report)

const there = new Set<string>()
for await (const entry of client.list(bucket, { prefix: `${run}/log/` })) {
  if (entry.type === 'object') there.add(entry.key)
}
const lost = [...acknowledged].filter(([key]) => !there.has(key))
for (const { from, to, epoch, atMs, pauseMs } of changes) {
  // What is lost was acknowledged before the pause.
  const before = atMs - pauseMs
  const here = lost.filter(([, ackMs]) => ackMs <= before)
  const oldestMs = Math.max(0, ...here.map(([, ackMs]) => before - ackMs))
  console.log(
    `region ${from} to ${to}, epoch ${epoch}: writes stood still for ${Math.round(pauseMs)} ms; ` +
      `${here.length} acknowledged ones lost so far, RPO ${Math.round(oldestMs)} ms`,
  )
}
const { reads, stale, errors } = seen
console.log(
  `done: ${acknowledged.size} writes, ${reads} reads (${stale} older than the last write), ${errors} errors, ` +
    `${changes.length} changes of the primary, ${lost.length} acknowledged writes lost`,
)
process.exitCode = errors === 0 ? 0 : 1
