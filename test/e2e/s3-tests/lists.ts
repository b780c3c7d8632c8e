import { readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'

const directory = resolve(import.meta.dirname, '../../../../test/e2e/s3-tests')

export type Verdict = 'implemented' | 'not-yet' | 'never'

export interface Lists {
  /** A failure of one of these is a defect of ours. */
  readonly implemented: ReadonlySet<string>
  /** Case -> why not yet. */
  readonly notYet: ReadonlyMap<string, string>
  /** Case -> why it never will. */
  readonly never: ReadonlyMap<string, string>
}

/**
 * Reads the three lists: one case a line; a comment line gives the reason for the cases below it. Throws on a case named
 * twice, and on a `not-yet` or `never` case without a reason.
 */
export function readLists(): Lists {
  const seen = new Map<string, Verdict>()
  const read = (verdict: Verdict): Map<string, string> => {
    const cases = new Map<string, string>()
    let reason = ''
    for (const raw of readFileSync(join(directory, `${verdict}.txt`), 'utf8').split('\n')) {
      const line = raw.trim()
      if (line.startsWith('#')) reason = line.slice(1).trim()
      if (line === '' || line.startsWith('#')) continue
      const other = seen.get(line)
      if (other) throw new Error(`${line} is in ${other}.txt and in ${verdict}.txt`)
      if (verdict !== 'implemented' && reason === '')
        throw new Error(`${line} in ${verdict}.txt has no reason`)
      seen.set(line, verdict)
      cases.set(line, reason)
    }
    return cases
  }
  return {
    implemented: new Set(read('implemented').keys()),
    notYet: read('not-yet'),
    never: read('never'),
  }
}
