import type { Clock } from '../../contract/clock.ts'
import type { Logger } from '../../contract/logger.ts'

/** A line is cut behind so many characters. */
const maxLineLength = 2000
/** A server that has much to say is heard so often a second; what is left out is counted. */
const linesPerSecond = 50

/**
 * What the server warns of at every start and is meant so: its passwords are random, 240 bits each, in a file that only its user reads;
 * a hash of them there would protect nothing else.
 */
const isChosen = (warning: string): boolean => warning.startsWith('Plaintext passwords detected')

/**
 * Passes a server's own log on to ours. `onLine` sees every line. Takes pieces of text as they come from a pipe; memory stays
 * bounded whatever the server writes.
 */
export function relayServerLog(
  log: Logger,
  clock: Clock,
  onLine: (line: string) => void,
): (piece: string) => void {
  let rest = ''
  let secondBegan = Number.NEGATIVE_INFINITY
  let told = 0
  let leftOut = 0
  const relay = (line: string): void => {
    onLine(line)
    const now = clock.monotonic()
    if (now - secondBegan >= 1000) {
      if (leftOut > 0) log.warn({ lines: leftOut }, 'nats-server wrote more than is passed on')
      secondBegan = now
      told = 0
      leftOut = 0
    }
    if (told++ >= linesPerSecond) {
      leftOut++
      return
    }
    // [123] 2026/11/22 03:15:18.123456 [INF] Server is ready
    const match = /^\[\d+\] \S+ \S+ \[(\w+)\] (.*)$/.exec(line)
    const text = match?.[2] ?? line
    switch (match?.[1]) {
      case 'ERR':
      case 'FTL':
        log.error({ from: 'nats-server' }, text)
        break
      case 'WRN':
        if (isChosen(text)) log.debug({ from: 'nats-server' }, text)
        else log.warn({ from: 'nats-server' }, text)
        break
      case 'INF':
        log.debug({ from: 'nats-server' }, text)
        break
      default:
        log.trace({ from: 'nats-server' }, text)
    }
  }
  return (piece) => {
    const lines = (rest + piece).split('\n')
    rest = (lines.pop() ?? '').slice(0, maxLineLength)
    for (const line of lines) if (line !== '') relay(line.slice(0, maxLineLength))
  }
}
