import { StorageError } from '../contract/errors.ts'
import type { StatusReply } from '../control/messages.ts'
import { isUnreachable } from '../control/unreachable.ts'
import { formatDuration, formatSize } from '../node/config/quantities.ts'
import { connect, type GlobalOptions } from './connect.ts'
import { exitCodes } from './exit-codes.ts'
import { counted, facts, formatTime, type Terminal } from './terminal.ts'

/** Exit code 7 when the node is up and something needs attention. */
export async function showStatus(terminal: Terminal, options: GlobalOptions): Promise<number> {
  using admin = await connect(terminal, options)
  const status = await admin.status()
  const code = status.problems.length > 0 ? exitCodes.findings[0] : exitCodes.ok[0]
  if (options.json === true) {
    terminal.out(`${JSON.stringify(status)}\n`)
    return code
  }
  const { store, catalog } = status
  const reads = store.cacheHits + store.cacheMisses
  terminal.out(
    facts([
      ['State', status.state],
      ...status.problems.map((problem) => ['Problem', problem] as const),
      ['Version', `${status.version}, process ${status.pid}`],
      ['Node', `${status.node} in region ${status.region}`],
      ['Running', `${formatDuration(Date.now() - status.startedMs)}, since ${formatTime(status.startedMs)}`],
      ['S3', `${status.s3Endpoint}, ${status.requestsInFlight} requests in flight`],
      ['Admin', status.adminEndpoint],
      ['Console', status.consoleEndpoint],
      ['Data', status.dataDirectory],
      [
        'Catalog',
        `${counted(catalog.buckets, 'bucket')}, ${counted(catalog.objects, 'object')}, ${formatSize(catalog.liveBytes)}`,
      ],
      [
        'Store',
        `${status.storeKind} (${status.storeBackend}), ${counted(store.chunkCount, 'chunk')}, ${formatSize(store.liveBytes)}`,
      ],
      ['Space', `${formatSize(store.freeBytes)} free of ${formatSize(store.capacityBytes)}`],
      [
        'Cache',
        reads === 0 ? 'no reads yet' : `${Math.round((100 * store.cacheHits) / reads)} % of ${reads} reads`,
      ],
      ...status.objectives.map((each) => ['Objective', describeObjective(each)] as const),
    ]),
  )
  return code
}

/** `interactive: 99.9 % without error: 87 % of the budget left, burns 2.1 times as fast as it lasts (1 h)`. */
export function describeObjective(objective: StatusReply['objectives'][number]): string {
  const { kind, target, requests, budgetLeft, burnRate_1h: rate } = objective
  const what = `${objective.class}: ${+(target * 100).toFixed(4)} % ${kind === 'latency' ? 'in time' : 'without error'}`
  if (requests === 0) return `${what}: no requests yet`
  const left =
    budgetLeft < 0 ? 'the budget is overspent' : `${Math.floor(budgetLeft * 100)} % of the budget left`
  return `${what}: ${left}${rate === 0 ? '' : `, burns ${rate.toFixed(1)} times as fast as it lasts (1 h)`}`
}

/** Asks the node to stop and waits until it no longer answers. */
export async function stopNode(terminal: Terminal, options: GlobalOptions): Promise<number> {
  using admin = await connect(terminal, options)
  const { pid } = await admin.status()
  await admin.stop()
  const stopped = await gone(admin)
  if (!stopped) throw new StorageError('TIMEOUT', `node ${pid} is still finishing requests`)
  terminal.out(
    options.json === true ? `${JSON.stringify({ stopped: true, pid })}\n` : `stopped node ${pid}\n`,
  )
  return exitCodes.ok[0]
}

/** Longer than the default drain of requests. */
const stopWaitMs = 45_000

async function gone(admin: { status(): Promise<unknown> }): Promise<boolean> {
  const deadline = performance.now() + stopWaitMs
  while (performance.now() < deadline) {
    try {
      await admin.status()
    } catch (reason) {
      if (isUnreachable(StorageError.from(reason))) return true
    }
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
  return false
}
