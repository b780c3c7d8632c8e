import { createHash } from 'node:crypto'

/**
 * Who did what to what, with what outcome, and from where. Records are lines of JSON, each with the hash of the one before it and of
 * itself: a line that was changed or taken out is found by whoever reads the file, and the end of a file by whoever has kept its
 * last hash elsewhere. Nothing in a record is a secret.
 */
export interface AuditEvent {
  /** Access key id, `local` for whoever the admin socket lets in, `anonymous`. */
  readonly actor: string
  readonly via: 's3' | 'admin' | 'console' | 'node'
  /** Address of the caller; empty: this machine. */
  readonly from: string
  /** The S3 operation, or the admin call. */
  readonly action: string
  /** Bucket, key, account, …; as far as there is one. */
  readonly resource: Readonly<Record<string, string>>
  /** refused: it was not allowed, or not taken as it was asked. failed: our own fault, whether it happened is not known. */
  readonly outcome: 'ok' | 'refused' | 'failed'
  /** Of an outcome that is not ok. */
  readonly code?: string
  /** The x-amz-request-id. */
  readonly request?: string
}

/** Where a chain stands: number and hash of its last record. */
export interface AuditPosition {
  readonly sequence: number
  /** 64 hex digits. */
  readonly hash: string
}

/** Before the first record. */
export const auditBeginning: AuditPosition = { sequence: 0, hash: '0'.repeat(64) }

/** Characters of one value: a key of an object has up to 1024 bytes. */
const maxText = 2048

/** The next line of a chain, without its newline, and where the chain stands then. */
export function auditLine(
  position: AuditPosition,
  event: AuditEvent,
  about: { readonly timeMs: number; readonly node: string; readonly lost: number },
): { readonly line: string; readonly position: AuditPosition } {
  const sequence = position.sequence + 1
  const record = JSON.stringify({
    sequence,
    time: new Date(about.timeMs).toISOString(),
    node: about.node,
    actor: event.actor.slice(0, maxText),
    via: event.via,
    from: event.from,
    action: event.action,
    resource: Object.fromEntries(
      Object.entries(event.resource).map(([name, value]) => [name, value.slice(0, maxText)]),
    ),
    outcome: event.outcome,
    ...(event.code === undefined ? {} : { code: event.code }),
    ...(event.request === undefined ? {} : { request: event.request }),
    // Records that could not be written since the one before.
    ...(about.lost === 0 ? {} : { lost: about.lost }),
    previous: position.hash,
  })
  // Some readers of lines take these for ends of one.
  const body = record.replaceAll('\u2028', '\\u2028').replaceAll('\u2029', '\\u2029')
  const hash = hashOf(body)
  return { line: `${body.slice(0, -1)},"hash":"${hash}"}`, position: { sequence, hash } }
}

const linePattern = /^(\{.*),"hash":"([0-9a-f]{64})"\}$/

interface AuditRecord extends AuditPosition {
  readonly previous: string
  readonly lost: number
}

/** Undefined: it is no record, or not the one that was written. */
export function parseAuditLine(line: string): AuditRecord | undefined {
  const [, head = '', hash = ''] = linePattern.exec(line) ?? []
  const body = `${head}}`
  if (hash === '' || hashOf(body) !== hash) return undefined
  try {
    const { sequence, previous, lost = 0 } = JSON.parse(body) as Record<string, unknown>
    if (typeof sequence !== 'number' || typeof previous !== 'string' || typeof lost !== 'number')
      return undefined
    return { sequence, hash, previous, lost }
  } catch {
    return undefined
  }
}

export interface AuditVerdict {
  readonly records: number
  /** Number of the first record that is there: later than 1 where older files were given up. */
  readonly first: number
  readonly last: AuditPosition
  /** That the records themselves say could not be written. */
  readonly lost: number
  /** With the line, from 1, over all that was read. */
  readonly problems: readonly string[]
}

/** At most so many problems are told: a file that is none of ours is one sentence, not a million. */
const maxProblems = 100

/** Reads the lines of an audit log, of all its files from the oldest to the newest. */
export async function verifyAudit(lines: AsyncIterable<string> | Iterable<string>): Promise<AuditVerdict> {
  const problems: string[] = []
  const complain = (problem: string): void => {
    if (problems.length < maxProblems) problems.push(problem)
  }
  let records = 0
  let lost = 0
  let first = 0
  let number = 0
  let last: AuditPosition | undefined
  for await (const line of lines) {
    number++
    const record = parseAuditLine(line)
    if (record === undefined) {
      complain(`line ${number}: not a record, or changed since it was written`)
      continue
    }
    if (last === undefined) {
      first = record.sequence
      if (first === 1 && record.previous !== auditBeginning.hash) complain(`line ${number}: not a beginning`)
    } else if (record.sequence !== last.sequence + 1) {
      complain(`line ${number}: record ${record.sequence} follows record ${last.sequence}`)
    } else if (record.previous !== last.hash) {
      complain(`line ${number}: record ${record.sequence} does not belong to the one before it`)
    }
    records++
    lost += record.lost
    last = record
  }
  const { sequence, hash } = last ?? auditBeginning
  return { records, first, last: { sequence, hash }, lost, problems }
}

const hashOf = (text: string): string => createHash('sha256').update(text).digest('hex')

/** S3 operations that change something: data, or who may do what with it. */
const changing = /^(Put|Delete|Create|Copy|Complete|Upload|Abort|Post|Restore)/

export const changesData = (operation: string): boolean => changing.test(operation)
