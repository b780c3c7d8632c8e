import { setTimeout as delay } from 'node:timers/promises'
import { parseMetrics } from '../../../sdk/admin/metrics.ts'
import { StorageError } from '../../contract/errors.ts'
import type { AdminClient } from '../../control/admin-client.ts'
import { formatDuration, parseDuration } from '../../node/config/quantities.ts'
import { connect, type GlobalOptions } from '../connect.ts'
import { exitCodes } from '../exit-codes.ts'
import { formatTime, type Screen, type Terminal } from '../terminal.ts'
import { Frame } from './frame.ts'
import { type ScreenSize, screenLines } from './screen-lines.ts'
import { paintLine } from './styled.ts'
import { type Sample, type TopView, viewOf } from './view.ts'

export interface TopOptions extends GlobalOptions {
  readonly interval: string
  readonly once?: boolean
}

/** Of a look that goes to a file or a pipe: nothing has to be left out. */
const unbounded: ScreenSize = { columns: 10_000, rows: 10_000 }

/**
 * Looks at a node again and again. On a terminal one look replaces the other; otherwise, and with `--json`, they follow one another.
 * Exit code 7 from `--once` when something needs attention.
 */
export async function top(terminal: Terminal, options: TopOptions): Promise<number> {
  const intervalMs = parseDuration(options.interval)
  if (intervalMs === undefined || intervalMs < 500 || intervalMs > 60_000)
    throw new StorageError('INVALID_ARGUMENT', '--interval: a time from 500ms to 1m')
  using admin = await connect(terminal, options)
  // What is wrong with the connection is told before the screen is taken.
  const first = await sampleOf(admin)
  const { screen } = terminal
  if (screen !== undefined && options.json !== true && options.once !== true)
    return await live(terminal, screen, admin, first, intervalMs)
  let before = first
  for (;;) {
    await delay(intervalMs)
    const after = await sampleOf(admin)
    const view = viewOf(before, after)
    before = after
    if (options.json === true) terminal.out(`${JSON.stringify(view)}\n`)
    else terminal.out(`${plainLines(view, after)}${options.once === true ? '' : '\n'}`)
    if (options.once === true) return exitCodes[view.problems.length > 0 ? 'findings' : 'ok'][0]
  }
}

async function sampleOf(admin: AdminClient): Promise<Sample> {
  const [status, text] = await Promise.all([admin.status(), admin.metrics()])
  return { atMs: performance.now(), nowMs: Date.now(), status, metrics: parseMetrics(text) }
}

const timeOf = ({ nowMs }: Sample): string => formatTime(nowMs).slice(11)

function plainLines(view: TopView, after: Sample): string {
  return screenLines(view, { time: timeOf(after), problem: '', isLive: false }, unbounded)
    .map((line) => `${paintLine(line, unbounded.columns, false)}\n`)
    .join('')
}

async function live(
  terminal: Terminal,
  screen: Screen,
  admin: AdminClient,
  first: Sample,
  intervalMs: number,
): Promise<number> {
  const frame = new Frame()
  const ended = new AbortController()
  let before = first
  // Until the second look there are no rates.
  let shown: { readonly view: TopView; readonly sample: Sample } = {
    view: viewOf(first, first),
    sample: first,
  }
  let problem = 'measuring'
  const draw = (): void => {
    const size = screen.size()
    const note = { time: timeOf(shown.sample), problem, isLive: true }
    // The last column stays free: a terminal that has written it may be about to wrap.
    const lines = screenLines(shown.view, note, size).map((line) =>
      paintLine(line, size.columns - 1, screen.hasColour),
    )
    const bytes = frame.next(lines, size)
    if (bytes !== '') terminal.out(bytes)
  }
  using _ = screen.open((event) => {
    if (event.kind === 'end' || (event.kind === 'key' && (event.key === 'q' || event.key === 'Q')))
      ended.abort()
    else if (event.kind === 'resize') draw()
  })
  draw()
  for (;;) {
    await delay(intervalMs, undefined, { signal: ended.signal }).catch(() => undefined)
    if (ended.signal.aborted) return exitCodes.ok[0]
    try {
      const after = await orEnd(sampleOf(admin), ended.signal)
      if (after === undefined) return exitCodes.ok[0]
      shown = { view: viewOf(before, after), sample: after }
      before = after
      problem = ''
    } catch (reason) {
      const silentMs = performance.now() - before.atMs
      problem = `no answer for ${formatDuration(silentMs)}: ${StorageError.from(reason).reason}`
    }
    draw()
  }
}

/** Undefined when the signal comes first: a node that does not answer keeps nobody from leaving. */
function orEnd<T>(work: Promise<T>, signal: AbortSignal): Promise<T | undefined> {
  return new Promise((resolve, reject) => {
    const leave = (): void => resolve(undefined)
    signal.addEventListener('abort', leave, { once: true })
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', leave))
  })
}
