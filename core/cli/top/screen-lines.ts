import { formatDuration, formatSize } from '../../node/config/quantities.ts'
import { alignedTable, type Cell, type Line, piece, type Style, type TableColumn } from './styled.ts'
import type { TopView } from './view.ts'

export interface ScreenSize {
  readonly columns: number
  readonly rows: number
}

/** What the first line says beside the node. */
export interface ScreenNote {
  /** `14:03:09Z` */
  readonly time: string
  /** Empty, or why nothing new is shown. */
  readonly problem: string
  /** Somebody is at the keys. */
  readonly isLive: boolean
}

interface Section {
  readonly head: Line
  readonly rows: readonly Line[]
}

/**
 * The screen as lines. What there is no room for is left out from the end of its table, which says so; tables that are shown last
 * are given up first.
 */
export function screenLines(view: TopView, note: ScreenNote, size: ScreenSize): readonly Line[] {
  const head = headLines(view, note)
  const sections = [
    classTable(view),
    operationTable(view),
    nodeTable(view),
    linkTable(view),
    tunnelTable(view),
    replicationTable(view),
  ].filter((section) => section !== undefined)
  return [...head, ...fitted(sections, size.rows - head.length)].slice(0, size.rows)
}

/** Each section with an empty line before it; long ones lose rows first. */
function fitted(sections: readonly Section[], room: number): readonly Line[] {
  const shown = sections.map(({ rows }) => rows.length)
  const height = () =>
    sections.reduce((sum, { rows }, index) => {
      const count = shown[index] ?? 0
      return sum + (count === 0 ? 0 : 2 + count + (count < rows.length ? 1 : 0))
    }, 0)
  while (height() > room) {
    const longest = Math.max(...shown)
    if (longest === 0) break
    // Down to two rows each, then whole tables from the last one on.
    const index = longest > 2 ? shown.lastIndexOf(longest) : shown.findLastIndex((count) => count > 0)
    shown[index] = longest > 2 ? longest - 1 : 0
  }
  return sections.flatMap(({ head, rows }, index): readonly Line[] => {
    const count = shown[index] ?? 0
    if (count === 0) return []
    const more = rows.length - count
    return [[], head, ...rows.slice(0, count), ...(more > 0 ? [[piece(`and ${more} more`, 'dim')]] : [])]
  })
}

const shownProblems = 3

function headLines(view: TopView, { time, problem, isLive }: ScreenNote): readonly Line[] {
  const { requests, process, store, catalog, problems } = view
  const ofState: Style = view.state === 'ready' ? 'good' : view.state === 'degraded' ? 'bad' : 'warn'
  const lines: Line[] = [
    [
      piece(` ${view.node}`, 'bold'),
      piece(` in ${view.region}   `),
      piece(view.state, ofState),
      piece(`   up ${formatDuration(view.uptimeMs)}   pando ${view.version}   ${time}   `),
      ...(isLive ? [piece('q quits', 'dim')] : []),
    ],
    // Always there, so that nothing below it moves.
    problem === '' ? [] : [piece(` ${problem}`, 'warn')],
  ]
  for (const each of problems.slice(0, shownProblems)) lines.push([piece(` ! ${each}`, 'bad')])
  if (problems.length > shownProblems)
    lines.push([piece(` and ${problems.length - shownProblems} more: pando status`, 'bad')])
  const used = store.capacityBytes === 0 ? 0 : store.usedBytes / store.capacityBytes
  lines.push(
    [
      label('Requests'),
      piece(`${perSecond(requests.perSecond)}/s`, 'bold'),
      piece(`, ${requests.inFlight} in flight, `),
      piece(
        `${perSecond(requests.errorsPerSecond)}/s failed`,
        requests.errorsPerSecond > 0 ? 'bad' : 'plain',
      ),
      piece(`, p50 ${latency(requests.p50Ms)}, p99 ${latency(requests.p99Ms)}`),
    ],
    [
      label('Bytes'),
      piece(
        `${bytesPerSecond(requests.receivedBytesPerSecond)} in, ${bytesPerSecond(requests.sentBytesPerSecond)} out`,
      ),
    ],
    [
      label('Process'),
      piece(`${percent(process.cpu)} of a core, ${formatSize(process.residentBytes)} resident, `),
      piece(`${formatSize(process.heapUsedBytes)} of them JavaScript's`),
    ],
    [
      label('Store'),
      piece(bar(used), used > 0.9 ? 'bad' : used > 0.75 ? 'warn' : 'plain'),
      piece(` ${percent(used)} of ${formatSize(store.capacityBytes)}, ${count(store.chunks)} chunks, `),
      piece(
        store.cacheHitRatio === null ? 'no reads' : `${percent(store.cacheHitRatio)} of reads from memory`,
      ),
      ...(store.corruptChunks > 0 ? [piece(`, ${count(store.corruptChunks)} damaged`, 'bad')] : []),
    ],
    [
      label('Catalog'),
      piece(`${count(catalog.buckets)} buckets, ${count(catalog.objects)} objects, `),
      piece(`${formatSize(catalog.liveBytes)}, ${perSecond(catalog.entriesPerSecond)} changes/s`),
    ],
  )
  return lines
}

const label = (name: string) => piece(` ${name.padEnd(9)}`, 'dim')

function classTable({ classes }: TopView): Section | undefined {
  return section(
    [' class', '#req/s', '#failed/s', '#p50', '#p99', '#at work', '#waiting', '#shed/s', '#budget'],
    classes.map((each) => [
      { text: ` ${each.name}` },
      ...trafficCells(each),
      { text: String(each.inFlight) },
      { text: String(each.waiting), ...styled(each.waiting > 0, 'warn') },
      { text: perSecond(each.shedPerSecond), ...styled(each.shedPerSecond > 0, 'bad') },
      each.budgetLeftRatio === null
        ? { text: '-' }
        : { text: percent(each.budgetLeftRatio), ...styled(each.budgetLeftRatio < 0.1, 'bad') },
    ]),
  )
}

function operationTable({ operations }: TopView): Section | undefined {
  return section(
    [' operation', '#req/s', '#failed/s', '#p50', '#p99'],
    operations.map((each) => [{ text: ` ${each.name}` }, ...trafficCells(each)]),
  )
}

function trafficCells(each: TopView['operations'][number]): readonly Cell[] {
  return [
    { text: perSecond(each.perSecond) },
    { text: perSecond(each.errorsPerSecond), ...styled(each.errorsPerSecond > 0, 'bad') },
    { text: latency(each.p50Ms) },
    { text: latency(each.p99Ms) },
  ]
}

/** Only when one is missing: the others are links, too. */
function nodeTable({ nodes }: TopView): Section | undefined {
  const down = nodes.filter(({ isUp }) => !isUp)
  return section(
    [` nodes: ${nodes.length - down.length} of ${nodes.length} up`],
    down.map(({ name }) => [{ text: ` ${name} is down`, style: 'bad' }]),
  )
}

function linkTable({ links }: TopView): Section | undefined {
  return section(
    [' link to', 'state', 'uses', '#req/s', '#in flight', '#failed/s', '#rtt p50', '#p99', '#loss'],
    links
      .toSorted((a, b) => Number(a.isUp) - Number(b.isUp))
      .map((each) => [
        { text: ` ${each.peer}` },
        { text: each.state, style: each.isUp ? 'good' : 'bad' },
        { text: each.transport === '' ? '-' : each.transport },
        { text: perSecond(each.requestsPerSecond) },
        { text: String(each.inFlight) },
        { text: perSecond(each.errorsPerSecond), ...styled(each.errorsPerSecond > 0, 'bad') },
        { text: latency(each.rttP50Ms) },
        { text: latency(each.rttP99Ms) },
        { text: percent(each.lossRatio), ...styled(each.lossRatio > 0.01, 'warn') },
      ]),
  )
}

function tunnelTable({ tunnels }: TopView): Section | undefined {
  return section(
    [' tunnel to region', 'state', 'over', '#rtt', '#in', '#out'],
    tunnels.map((each) => [
      { text: ` ${each.region}` },
      each.isUp ? { text: 'up', style: 'good' } : { text: 'down', style: 'bad' },
      { text: each.transport === '' ? '-' : each.transport },
      { text: latency(each.rttMs) },
      { text: bytesPerSecond(each.receivedBytesPerSecond) },
      { text: bytesPerSecond(each.sentBytesPerSecond) },
    ]),
  )
}

function replicationTable({ replication }: TopView): Section | undefined {
  return section(
    [' bucket', 'to region', '#behind', '#changes', '#given up', ''],
    replication.map((each) => [
      { text: ` ${each.bucket}` },
      { text: each.region },
      { text: each.lagEntries === 0 ? '-' : latency(each.lagMs), ...styled(each.lagMs > 60_000, 'warn') },
      { text: count(each.lagEntries) },
      { text: count(each.failedEntries), ...styled(each.failedEntries > 0, 'bad') },
      { text: each.isSynchronizing ? 'first copy under way' : '' },
    ]),
  )
}

/** `#` before a title: numbers. Without rows there is no table. */
function section(titles: readonly string[], rows: readonly (readonly Cell[])[]): Section | undefined {
  if (rows.length === 0) return undefined
  const columns = titles.map(
    (title): TableColumn => (title.startsWith('#') ? { title: title.slice(1), align: 'right' } : { title }),
  )
  const [head = [], ...lines] = alignedTable(columns, rows)
  return { head, rows: lines }
}

const styled = (isSo: boolean, style: Style): { readonly style?: Style } => (isSo ? { style } : {})

const count = (value: number): string => Math.round(value).toLocaleString('en-US')
const percent = (share: number): string => `${Math.round(share * 100)} %`
const bytesPerSecond = (value: number): string => `${formatSize(Math.round(value))}/s`

/** Few are told with their fraction: one in ten seconds is not none. */
function perSecond(value: number): string {
  if (value === 0) return '0'
  return value < 10 ? value.toFixed(1) : count(value)
}

export function latency(ms: number | null): string {
  if (ms === null) return '-'
  if (ms >= 60_000) return formatDuration(ms)
  if (ms >= 1000) return `${(ms / 1000).toFixed(1)} s`
  if (ms >= 10) return `${Math.round(ms)} ms`
  return ms >= 1 ? `${ms.toFixed(1)} ms` : `${Math.round(ms * 1000)} us`
}

function bar(share: number): string {
  const filled = Math.round(20 * Math.min(1, Math.max(0, share)))
  return `[${'|'.repeat(filled)}${' '.repeat(20 - filled)}]`
}
