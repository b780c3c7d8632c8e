import type { CandidateReport, LinkReport, NodeLinksReport, SwitchRecord } from '../contract/link.ts'
import { formatDuration, formatSize } from '../node/config/quantities.ts'
import { connect, type GlobalOptions } from './connect.ts'
import { exitCodes } from './exit-codes.ts'
import { formatTime, printable, type Terminal, table } from './terminal.ts'

const watchIntervalMs = 1000
/** Of the history, in the table; `--json` has all that the node keeps. */
const shownSwitches = 10

/** Exit code 7 when a link or a listener is down, so that a script can wait for a region to be whole. */
export async function showLinks(
  terminal: Terminal,
  options: GlobalOptions & { readonly watch?: boolean },
): Promise<number> {
  using admin = await connect(terminal, options)
  for (;;) {
    const report = await admin.links()
    if (options.json === true) terminal.out(`${JSON.stringify(report)}\n`)
    else {
      // Home and clear: the next look replaces this one. In a file or a pipe the looks follow one another.
      if (options.watch === true && terminal.isInteractive) terminal.out('\x1b[H\x1b[2J')
      terminal.out(describeLinks(report))
    }
    if (options.watch !== true) return exitCodes[isWhole(report) ? 'ok' : 'findings'][0]
    await new Promise((resolve) => setTimeout(resolve, watchIntervalMs))
  }
}

const isWhole = ({ links, listeners }: NodeLinksReport): boolean =>
  links.every(({ active }) => active !== '') && listeners.every(({ problem }) => problem === '')

/** For a person. */
export function describeLinks(report: NodeLinksReport): string {
  const { enabled, links, listeners } = report
  const head = `Node ${report.node} (${report.nodeId}), region ${report.regionId}\n`
  if (!enabled) {
    return (
      `${head}\nThis node has no peers: it connects to no other node and lets none in.\n` +
      "Name them under `peers` in the configuration file; 'pando config schema' tells how.\n" +
      `\n${describeTransports(report)}`
    )
  }
  const parts = [
    head,
    links.length === 0 ? 'No peers are configured (`peers`): this node only listens.\n' : linkTable(links),
  ]
  if (links.length > 0) parts.push(pathTable(links))
  parts.push(
    listeners.length === 0 ? 'Listens for nobody (`rpc.serve`).\n' : listenerTable(report),
    history(links),
  )
  return parts.filter((part) => part !== '').join('\n')
}

function linkTable(links: readonly LinkReport[]): string {
  return table(
    [
      { title: 'peer' },
      { title: 'state' },
      { title: 'for', align: 'right' },
      { title: 'uses' },
      { title: 'requests', align: 'right' },
      { title: 'in flight', align: 'right' },
      { title: 'resent', align: 'right' },
      { title: 'failed', align: 'right' },
      { title: 'switches', align: 'right' },
      { title: 'chosen by' },
    ],
    links.map((link) => [
      link.peer,
      link.state,
      formatDuration(link.stateForMs),
      link.active === '' ? '-' : link.active,
      String(link.requests),
      String(link.inFlight),
      String(link.resent),
      String(link.failed),
      String(link.switchCount),
      link.why === '' ? '-' : link.why,
    ]),
  )
}

function pathTable(links: readonly LinkReport[]): string {
  const rows = links.flatMap(({ peer, active, candidates }) =>
    candidates.map((candidate) => [
      candidate.id === active ? '*' : '',
      peer,
      candidate.id,
      candidate.address,
      candidate.state,
      candidate.encryption === '' ? '-' : candidate.encryption,
      ...measurements(candidate),
      problemOf(candidate),
    ]),
  )
  if (rows.length === 0) return 'No transport in common with any peer.\n'
  return table(
    [
      { title: '' },
      { title: 'peer' },
      { title: 'transport' },
      { title: 'address' },
      { title: 'state' },
      { title: 'encryption' },
      { title: 'rtt p50', align: 'right' },
      { title: 'p99', align: 'right' },
      { title: 'jitter', align: 'right' },
      { title: 'loss', align: 'right' },
      { title: 'health', align: 'right' },
      { title: 'rate', align: 'right' },
      { title: 'problem' },
    ],
    rows,
  )
}

/** What is down has no measurements: old ones would look like new ones. */
function measurements(candidate: CandidateReport): readonly string[] {
  if (candidate.state === 'down') return ['-', '-', '-', '-', '-', '-']
  const { rttP50Ms, rttP99Ms, jitterMs, loss, health, bytesPerSecond } = candidate
  return [
    formatRoundTrip(rttP50Ms),
    formatRoundTrip(rttP99Ms),
    formatRoundTrip(jitterMs),
    `${Math.round(loss * 100)} %`,
    `${Math.round(health * 100)} %`,
    bytesPerSecond < 1 ? '-' : `${formatSize(Math.round(bytesPerSecond))}/s`,
  ]
}

function problemOf({ state, problem, retryInMs }: CandidateReport): string {
  if (state !== 'down') return ''
  const again = retryInMs > 0 ? `; again in ${formatDuration(retryInMs)}` : ''
  return `${problem === '' ? 'connecting' : problem}${again}`
}

function listenerTable({ listeners }: NodeLinksReport): string {
  return table(
    [
      { title: 'listens' },
      { title: 'address' },
      { title: 'sessions', align: 'right' },
      { title: 'refused', align: 'right' },
      { title: 'note' },
    ],
    listeners.map(({ transport, address, problem, sessions, refused, lastRefusal }) => [
      transport,
      address,
      String(sessions),
      String(refused),
      problem === '' ? (lastRefusal === '' ? '' : `last refused: ${lastRefusal}`) : `down: ${problem}`,
    ]),
  )
}

function history(links: readonly LinkReport[]): string {
  const switches = links
    .flatMap(({ peer, switches: some }) => some.map((record) => ({ peer, ...record })))
    .toSorted((left, right) => right.atMs - left.atMs)
    .slice(0, shownSwitches)
  if (switches.length === 0) return ''
  return table(
    [{ title: 'when' }, { title: 'peer' }, { title: 'from' }, { title: 'to' }, { title: 'why' }],
    switches.map((record) => [
      formatTime(record.atMs),
      record.peer,
      record.from === '' ? '-' : record.from,
      record.to,
      whyOf(record),
    ]),
  )
}

const whyOf = ({ isForced, why, pauseMs }: SwitchRecord): string =>
  isForced ? `forced: ${why}; nothing was up for ${formatRoundTrip(pauseMs)}` : why

function describeTransports({ transports }: NodeLinksReport): string {
  return table(
    [{ title: 'transport' }, { title: 'here' }, { title: 'found' }],
    transports.map(({ id, available, found, advice }) => [
      id,
      available ? 'yes' : 'no',
      printable(advice === '' ? found : `${found} (${advice})`),
    ]),
  )
}

function formatRoundTrip(ms: number): string {
  if (ms >= 1000) return `${(ms / 1000).toFixed(1)} s`
  return ms >= 1 ? `${ms.toFixed(1)} ms` : `${Math.round(ms * 1000)} us`
}
