import { Writable } from 'node:stream'
import { type Level, type Logger as PinoLogger, pino } from 'pino'
import type { Logger } from '../contract/logger.ts'

export type LogLevel = 'trace' | 'debug' | 'info' | 'warn' | 'error'

export interface LogOptions {
  readonly level: LogLevel
  /** auto: text when the target is a terminal. */
  readonly format: 'auto' | 'json' | 'text'
  /** File descriptor; 2 by default, because stdout belongs to the command's answer. */
  readonly fd?: number
  readonly isTerminal?: boolean
}

export interface NodeLog {
  readonly logger: Logger
  /** Writes out what is buffered, at once: before a process ends. */
  flush(): void
}

/**
 * Names whose values never reach a log, at the top and one or two levels down. The last line of defence: callers do not
 * log secrets in the first place. A test sends each through a logger.
 */
const secretNames = [
  'secretKey',
  'secretAccessKey',
  'secret',
  'password',
  'token',
  'authorization',
  'Authorization',
  'sealedSecret',
  'sealingKey',
  'signature',
  'rawTarget',
  '["x-amz-security-token"]',
  '["x-amz-server-side-encryption-customer-key"]',
  '["x-amz-copy-source-server-side-encryption-customer-key"]',
  '["X-Amz-Signature"]',
  'Signature',
  '["pando-authorization"]',
]

/** Lines that could not be written yet. */
const mostUnwrittenBytes = 1024 * 1024

export const redactedPaths: readonly string[] = secretNames.flatMap((name) => {
  const step = name.startsWith('[') ? name : `.${name}`
  return [name, `*${step}`, `*.*${step}`]
})

/** Structured logs: one JSON object a line, or readable text for a person at a terminal. */
export function openLog({ level, format, fd = 2, isTerminal = false }: LogOptions): NodeLog {
  // Synchronous, because a line about why the process died must not die with it. Lines are few: requests are logged at
  // debug only.
  const target = pino.destination({ fd, sync: true, maxLength: mostUnwrittenBytes })
  // A closed terminal or pipe must not take the node down, nor a file on a full device: what it does not take is written later, and
  // of more than this the newest lines are left out.
  target.on('error', () => undefined)
  const text = format === 'text' || (format === 'auto' && isTerminal)
  const sink = text ? textSink((line) => void target.write(line)) : target
  return { logger: makeLogger(level, sink), flush: () => target.flushSync() }
}

/** A logger that writes its lines to `write`: JSON. For tests, and for whoever keeps lines elsewhere. */
export function makeLogger(level: LogLevel, sink: { write(line: string): void }): Logger {
  const logger: PinoLogger = pino(
    {
      level: level satisfies Level,
      base: null,
      redact: { paths: [...redactedPaths], censor: '[hidden]' },
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      serializers: { err: describeError, error: describeError, cause: describeError },
    },
    sink as Writable,
  )
  return logger
}

/** An error with its causes, at most four deep, and the stack of the outermost. */
export function describeError(reason: unknown, depth = 0): unknown {
  if (!(reason instanceof Error)) return reason
  return {
    ...('code' in reason ? { code: reason.code } : {}),
    message: reason.message,
    ...(depth === 0 ? { stack: reason.stack } : {}),
    ...(reason.cause === undefined || depth >= 3 ? {} : { cause: describeError(reason.cause, depth + 1) }),
  }
}

function textSink(write: (line: string) => void): Writable {
  return new Writable({
    decodeStrings: false,
    write(line: string, _encoding, done) {
      write(formatLine(line))
      done()
    },
  })
}

/** One JSON line as a person reads it: `12:03:11.123 WARN  message  key=value`. */
export function formatLine(line: string): string {
  let fields: Record<string, unknown>
  try {
    fields = JSON.parse(line) as Record<string, unknown>
  } catch {
    return line
  }
  const { time, level, msg, ...rest } = fields
  const clock = typeof time === 'string' ? time.slice(11, 23) : ''
  const details = Object.entries(rest)
    .map(([name, value]) => `  ${name}=${typeof value === 'string' ? quoted(value) : JSON.stringify(value)}`)
    .join('')
  return `${clock} ${String(level).toUpperCase().padEnd(5)} ${printable(String(msg ?? ''))}${details}\n`
}

function quoted(value: string): string {
  return /^[\x21-\x7e]+$/.test(value) && !value.includes('"') ? value : JSON.stringify(value)
}

/** Control characters (an object key may hold an escape sequence) must not reach the terminal. */
function printable(text: string): string {
  return text.replace(
    /\p{Cc}/gu,
    (character) => `\\x${character.charCodeAt(0).toString(16).padStart(2, '0')}`,
  )
}
