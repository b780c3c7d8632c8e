import { readdirSync, readFileSync } from 'node:fs'
import { openS3Client } from '../../kit/s3-client.ts'
import {
  type Figures,
  type Limit,
  noFigures,
  prepare,
  runWorkload,
  type Subject,
  type Workload,
} from './workloads.ts'

/**
 * A store that somebody else runs, in the same run: `--against URL`, with the keys in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY and, in
 * `--against-processes`, the names of its processes, whose processor time counts. It is outside the namespaces in which the nodes are
 * hosts, and is asked from there by this program's first process.
 */
export const otherStoreOptions = {
  against: { type: 'string', default: '' },
  'against-processes': { type: 'string', default: '' },
} as const

type Question =
  | { readonly type: 'prepare'; readonly sizes: readonly number[] }
  | { readonly type: 'run'; readonly workload: Workload; readonly limit: Limit }

/** Answers what `askOtherStore` asks from within the namespaces; undefined without another store. */
export function openOtherStore(
  endpoint: string,
  processes: string,
): ((message: unknown) => Promise<unknown>) | undefined {
  if (endpoint === '') return undefined
  const { AWS_ACCESS_KEY_ID: accessKey = '', AWS_SECRET_ACCESS_KEY: secretKey = '' } = process.env
  const names = processes.split(',').filter((name) => name !== '')
  const subject: Subject = {
    name: endpoint,
    clients: [openS3Client({ endpoint, accessKey, secretKey, connections: 64 })],
    pids: () => pidsOf(names),
  }
  return async (message) => {
    const question = message as Question
    if (question.type === 'prepare') return prepare(subject, question.sizes)
    const into = noFigures()
    await runWorkload(subject, question.workload, into, question.limit)
    return into
  }
}

/** In the namespaces: one question at a time. */
// Messages are JSON: no limit may be infinite.
async function ask(question: Question): Promise<unknown> {
  const answer = await new Promise<{ readonly value?: unknown; readonly error?: string }>((resolve) => {
    process.once('message', resolve)
    process.send?.(question)
  })
  if (answer.error !== undefined) throw new Error(answer.error)
  return answer.value
}

export const prepareOtherStore = (sizes: readonly number[]): Promise<unknown> =>
  ask({ type: 'prepare', sizes })

export async function runOtherStore(workload: Workload, into: Figures, limit: Limit): Promise<void> {
  const { latencies, requests, cpuMs, elapsedMs } = (await ask({ type: 'run', workload, limit })) as Figures
  for (const latency of latencies) into.latencies.push(latency)
  into.requests += requests
  into.cpuMs += cpuMs
  into.elapsedMs += elapsedMs
}

function pidsOf(names: readonly string[]): readonly number[] {
  return readdirSync('/proc')
    .filter((entry) => /^\d+$/.test(entry))
    .filter((pid) => {
      try {
        return names.includes(readFileSync(`/proc/${pid}/comm`, 'utf8').trim())
      } catch {
        return false
      }
    })
    .map(Number)
}
