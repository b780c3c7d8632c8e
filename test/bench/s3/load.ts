import { execFile } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'

const run = promisify(execFile)

export interface Load {
  readonly method: 'GET' | 'PUT'
  /** Signed paths, requested in turn, again from the first when they run out. */
  readonly paths: readonly string[]
  /** Bytes of each request's body. */
  readonly bodyBytes: number
  readonly connections: number
  readonly seconds: number
}

export interface LoadResult {
  readonly requests: number
  readonly seconds: number
  readonly receivedBytes: number
  readonly p50Us: number
  readonly p99Us: number
  readonly badStatus: number
  readonly socketErrors: number
}

/** Drives one endpoint with wrk (one thread). Throws when any request failed: a failed request is not a fast one. */
export async function applyLoad(url: string, load: Load): Promise<LoadResult> {
  const folder = await mkdtemp(join(tmpdir(), 'pando-bench-'))
  try {
    const paths = join(folder, 'paths')
    await writeFile(paths, `${load.paths.join('\n')}\n`)
    const options = ['-t1', `-c${load.connections}`, `-d${load.seconds}s`, '--timeout', '30s']
    const script = ['-s', 'test/bench/s3/load.lua', url, '--', load.method, String(load.bodyBytes), paths]
    const { stdout } = await run('wrk', [...options, ...script], { maxBuffer: 1 << 24 })
    const line = /^LOAD (.*)$/m.exec(stdout)?.[1]
    if (line === undefined) throw new Error(`wrk printed no result:\n${stdout}`)
    const result: LoadResult = JSON.parse(line)
    if (result.badStatus > 0 || result.socketErrors > 0 || result.requests === 0) {
      throw new Error(`failed requests against ${url}: ${line}`)
    }
    return result
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}
