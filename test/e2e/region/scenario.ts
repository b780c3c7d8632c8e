import assert from 'node:assert/strict'
import { setTimeout as sleep } from 'node:timers/promises'
import type { ClusterReport } from '../../../core/contract/cluster-report.ts'
import { socketAdmin } from '../../kit/admin-ways.ts'
import { seededRandom } from '../../kit/random.ts'
import { openRegion, type Region, type RegionNode, type RegionOptions } from '../../kit/region/region.ts'
import { openRegionLoad, percentile, type RegionLoad } from './region-load.ts'

/** What all scenarios of a region share. Figures go to standard output: the test that runs the scenario prints them. */
export const bucket = 'region'

/**
 * What a node's death may cost at most, in milliseconds. On a quiet machine the region is held to three seconds by PANDO_OUTAGE_MS=3000; a
 * machine that runs other tests beside it proves only that service comes back.
 */
export const outageMs = Number(process.env['PANDO_OUTAGE_MS'] ?? 15_000)

/** How often a scenario does what it does again and again: few times beside other tests, more by PANDO_ROUNDS. */
export const roundsOf = (few: number): number => Number(process.env['PANDO_ROUNDS'] ?? few)

export const say = (text: string): void => void process.stdout.write(`${text}\n`)

/**
 * Clients give the region all that it takes for so long around each end of what hurts it: there requests are to be on their way. Between
 * the ends and after them they think: it is to be seen that service comes back, and machines full of requests show nothing more of that.
 */
const busyMs = 1000
const calmThinkMs = 120

export interface Stage extends AsyncDisposable {
  readonly region: Region
  readonly load: RegionLoad
  /** The load goes on while `hurt` runs and for `afterMs`; prints the longest time without a success and resolves with it. */
  under(what: string, hurt: () => Promise<void>, afterMs?: number): Promise<number>
  /** Stops the load and reads everything at every gateway that runs. */
  verify(): Promise<void>
}

export async function openStage(
  options: RegionOptions & {
    readonly clients?: number
    /** What clients think all the time, where what they see is compared; otherwise see `busyMs`. */
    readonly thinkMs?: number
  },
): Promise<Stage> {
  const seed = Number(process.env['PANDO_SEED'] ?? Math.floor(Math.random() * 2 ** 31))
  say(`seed ${seed}: repeat with PANDO_SEED=${seed}`)
  const region = await openRegion(options)
  const { clients = 6, thinkMs } = options
  const load = openRegionLoad({ bucket, random: seededRandom(seed), clients })
  const [busyThinkMs, restThinkMs] = [thinkMs ?? 0, thinkMs ?? calmThinkMs]
  try {
    const began = performance.now()
    await region.startAll()
    say(`${region.nodes.length} nodes serve after ${Math.round(performance.now() - began)} ms`)
    const [first] = region.nodes
    assert.ok(first)
    const made = await first.client.send({ method: 'PUT', bucket })
    assert.equal(made.status, 200, `${made.body}`)
  } catch (reason) {
    const logs = region.nodes.map((node) => `${node.name}:\n${node.logTail()}`).join('\n')
    await region[Symbol.asyncDispose]()
    throw new Error(`the region did not begin: ${String(reason)}\n${logs}`, { cause: reason })
  }
  let isLoaded = false
  const withLogs = async <T>(work: () => Promise<T>): Promise<T> => {
    try {
      return await work()
    } catch (reason) {
      const logs = region.nodes.map((node) => `--- ${node.name}\n${node.logTail().slice(-6000)}`).join('\n')
      throw new Error(`${reason instanceof Error ? reason.message : String(reason)}\n${logs}`, {
        cause: reason,
      })
    }
  }
  return {
    region,
    load,
    under: (what, hurt, afterMs = 3000) =>
      withLogs(async () => {
        load.setGateways(region.nodes.filter(({ running }) => running).map(({ client }) => client))
        load.setThinkMs(busyThinkMs)
        if (!isLoaded) load.start()
        isLoaded = true
        await sleep(500)
        load.takeOutage()
        const begun = setTimeout(() => load.setThinkMs(restThinkMs), busyMs)
        await hurt().finally(() => clearTimeout(begun))
        load.setThinkMs(busyThinkMs)
        await sleep(Math.min(busyMs, afterMs))
        load.setThinkMs(restThinkMs)
        await sleep(Math.max(0, afterMs - busyMs))
        const { longestMs, succeeded, refused, latencies } = load.takeOutage()
        const p99 = Math.round(percentile(latencies, 0.99))
        say(
          `${what}: longest time without a success ${Math.round(longestMs)} ms; ${succeeded} answered, ${refused} refused, ` +
            `p50 ${Math.round(percentile(latencies, 0.5))} ms, p99 ${p99} ms`,
        )
        return longestMs
      }),
    verify: () =>
      withLogs(async () => {
        await load.stop()
        isLoaded = false
        for (const node of region.nodes) {
          if (node.running) await load.verify(node.client)
        }
        say(`everything acknowledged is there at every gateway (${load.acknowledged} writes)`)
      }),
    [Symbol.asyncDispose]: () => region[Symbol.asyncDispose](),
  }
}

/** Polls until it holds. */
export async function until(
  what: string,
  holds: () => Promise<boolean>,
  timeoutMs = 30_000,
): Promise<number> {
  const began = performance.now()
  for (;;) {
    if (await holds().catch(() => false)) return performance.now() - began
    if (performance.now() - began > timeoutMs) throw new Error(`${what}: not within ${timeoutMs} ms`)
    await sleep(100)
  }
}

/** What `pando cluster status --json` tells of a node, without a program that would have to begin for each look. */
export async function clusterStatus(node: RegionNode): Promise<ClusterReport> {
  const admin = socketAdmin(node)
  try {
    return await admin.cluster.report()
  } finally {
    admin.close()
  }
}
