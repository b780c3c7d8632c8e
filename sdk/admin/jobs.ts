import { invalidAnswer } from '../client/errors.ts'
import type { AdminChannel } from './channel.ts'
import type { AdminCallOptions } from './connection.ts'
import type { JobFinding, JobProgress, JobResult } from './types.ts'

export interface JobOptions extends AdminCallOptions {
  /** At most four times a second. */
  readonly onProgress?: (progress: JobProgress) => void
  readonly onFinding?: (finding: JobFinding) => void
}

interface JobUpdate {
  readonly progress?: JobProgress | null
  readonly finding?: JobFinding | null
  readonly report?: {
    readonly clean: boolean
    readonly counts: readonly { readonly name: string; readonly value: number }[]
  } | null
}

const maxFindings = 1000

/** A long call to its end; the report is its last word. */
export async function runJob(
  connection: AdminChannel,
  method: string,
  body: object,
  options: JobOptions,
): Promise<JobResult> {
  const findings: JobFinding[] = []
  for await (const { progress, finding, report } of connection.stream<JobUpdate>(method, body, options)) {
    if (progress) options.onProgress?.(progress)
    if (finding) {
      if (findings.length < maxFindings) findings.push(finding)
      options.onFinding?.(finding)
    }
    if (report) {
      const counts = Object.fromEntries(report.counts.map(({ name, value }) => [name, value]))
      return { clean: report.clean, counts, findings }
    }
  }
  throw invalidAnswer(`${method} ended without a report`, connection.origin)
}
