import { StorageError } from '../contract/errors.ts'
import type { JobFinding, JobUpdate } from '../control/messages.ts'
import { ProgressLine, type Terminal } from './terminal.ts'

export interface JobResult {
  readonly clean: boolean
  readonly counts: Readonly<Record<string, number>>
}

/** Shows how far a long call is and hands on its findings; resolves with its report. */
export async function followJob(
  terminal: Terminal,
  updates: AsyncIterable<JobUpdate>,
  onFinding: (finding: JobFinding) => void,
): Promise<JobResult> {
  const progress = new ProgressLine(terminal)
  try {
    for await (const update of updates) {
      if ('progress' in update) {
        progress.update(update.progress.stage, update.progress.done, update.progress.total)
      } else if ('finding' in update) {
        progress.clear()
        onFinding(update.finding)
      } else if ('report' in update) {
        const { clean, counts } = update.report
        return { clean, counts: Object.fromEntries(counts.map(({ name, value }) => [name, value])) }
      }
    }
  } finally {
    progress.clear()
  }
  throw new StorageError('INTERNAL', 'the node ended the call without a report')
}
