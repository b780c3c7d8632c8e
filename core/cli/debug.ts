import type { AdminClient } from '../control/admin-client.ts'
import type { JobFinding, JobUpdate } from '../control/messages.ts'
import { formatDuration, formatSize } from '../node/config/quantities.ts'
import { connect, type GlobalOptions } from './connect.ts'
import { exitCodes } from './exit-codes.ts'
import { followJob } from './follow-job.ts'
import { facts, printable, type Terminal } from './terminal.ts'

/** Findings kept for --json; more are counted, not kept. */
const maxFindings = 10_000

export async function scan(
  terminal: Terminal,
  options: GlobalOptions & { readonly repair?: boolean },
): Promise<number> {
  return runJob(terminal, options, 'store and catalog agree', (admin) => admin.scan(options.repair === true))
}

export async function scrub(terminal: Terminal, options: GlobalOptions): Promise<number> {
  return runJob(terminal, options, 'every byte is as it was written', (admin) => admin.scrub())
}

export async function collect(terminal: Terminal, options: GlobalOptions): Promise<number> {
  return runJob(terminal, options, 'done', (admin) => admin.collect())
}

/** Exit code 7 when the job found something wrong. */
async function runJob(
  terminal: Terminal,
  options: GlobalOptions,
  whenClean: string,
  start: (admin: AdminClient) => AsyncIterable<JobUpdate>,
): Promise<number> {
  using admin = await connect(terminal, options)
  const findings: JobFinding[] = []
  const { clean, counts } = await followJob(terminal, start(admin), (finding) => {
    if (options.json === true) {
      if (findings.length < maxFindings) findings.push(finding)
    } else terminal.out(describe(finding))
  })
  if (options.json === true) terminal.out(`${JSON.stringify({ clean, counts, findings })}\n`)
  else {
    const numbers = Object.entries(counts).map(([name, value]) => `${value} ${name}`)
    terminal.out(`${clean ? whenClean : 'something is wrong'}: ${numbers.join(', ')}\n`)
  }
  return clean ? exitCodes.ok[0] : exitCodes.findings[0]
}

function describe({ problem, detail, chunkId, bucket, key }: JobFinding): string {
  const owner = bucket === '' ? 'no object' : `${bucket}/${printable(key)}`
  return `${problem}  ${owner}  ${chunkId === '' ? '' : `chunk ${chunkId}  `}${printable(detail)}\n`
}

export async function stats(terminal: Terminal, options: GlobalOptions): Promise<number> {
  using admin = await connect(terminal, options)
  const { store, catalog, process: own } = await admin.stats()
  if (options.json === true) {
    terminal.out(`${JSON.stringify({ store, catalog, process: own })}\n`)
    return exitCodes.ok[0]
  }
  const count = (value: number) => value.toLocaleString('en-US')
  terminal.out(
    facts([
      ['store: chunks', count(store.chunkCount)],
      ['store: live', formatSize(store.liveBytes)],
      ['store: stale', formatSize(store.staleBytes)],
      ['store: free', `${formatSize(store.freeBytes)} of ${formatSize(store.capacityBytes)}`],
      ['store: index in memory', formatSize(store.indexBytes)],
      [
        'store: cache',
        `${formatSize(store.cacheBytes)}, ${count(store.cacheHits)} hits, ${count(store.cacheMisses)} misses`,
      ],
      ['store: pool', `${formatSize(store.poolUsedBytes)} of ${formatSize(store.poolBytes)} in use`],
      ['store: damaged chunks', count(store.corruptChunks)],
      ['store: online', String(store.online)],
      ['catalog: buckets', count(catalog.buckets)],
      ['catalog: objects', count(catalog.objects)],
      ['catalog: versions', count(catalog.versions)],
      ['catalog: uploads', count(catalog.uploads)],
      ['catalog: live', formatSize(catalog.liveBytes)],
      ['catalog: waiting to be freed', count(catalog.garbageWrites)],
      ['catalog: log position', count(catalog.position)],
      ['catalog: on disk', formatSize(catalog.bytesOnDisk)],
      ['process: resident', formatSize(own.residentBytes)],
      ['process: heap', formatSize(own.heapUsedBytes)],
      ['process: CPU', `${own.cpuSeconds.toFixed(1)} s in ${formatDuration(own.uptimeSeconds * 1000)}`],
    ]),
  )
  return exitCodes.ok[0]
}
