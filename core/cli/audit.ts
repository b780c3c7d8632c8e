import { createReadStream } from 'node:fs'
import { StorageError } from '../contract/errors.ts'
import { verifyAudit } from '../telemetry/audit.ts'
import type { GlobalOptions } from './connect.ts'
import { exitCodes } from './exit-codes.ts'
import type { Terminal } from './terminal.ts'

/** No record is longer. */
const maxLine = 1024 * 1024

/** Reads the files of an audit log, oldest first. Exit code 7 when a record was changed or is missing. */
export async function verifyAuditFiles(
  terminal: Terminal,
  options: GlobalOptions,
  ...files: readonly string[]
): Promise<number> {
  const verdict = await verifyAudit(linesOf(files)).catch((error: unknown) => {
    throw StorageError.from(error, 'INVALID_ARGUMENT')
  })
  const code = exitCodes[verdict.problems.length === 0 ? 'ok' : 'findings'][0]
  if (options.json === true) {
    terminal.out(`${JSON.stringify(verdict)}\n`)
    return code
  }
  for (const problem of verdict.problems) terminal.out(`${problem}\n`)
  const { records, first, last, lost } = verdict
  terminal.out(`${records} records, ${first} to ${last.sequence}; hash of the last one: ${last.hash}\n`)
  if (first > 1) terminal.out(`records before ${first} are not in these files\n`)
  if (lost > 0) terminal.out(`${lost} could not be written when they happened\n`)
  terminal.out(verdict.problems.length === 0 ? 'the chain is whole\n' : 'the chain is broken\n')
  return code
}

async function* linesOf(files: readonly string[]): AsyncIterable<string> {
  for (const file of files) {
    let rest = ''
    // Not node:readline, for which other characters end a line, too.
    for await (const piece of createReadStream(file, 'utf8')) {
      const lines = (rest + String(piece)).split('\n')
      rest = lines.pop() ?? ''
      if (rest.length > maxLine) throw new StorageError('INVALID_ARGUMENT', `${file} is no audit log`)
      yield* lines
    }
    if (rest !== '') yield rest
  }
}
