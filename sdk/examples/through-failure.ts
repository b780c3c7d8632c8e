/**
 * An application that keeps reading and writing while one of its two endpoints dies: `node dist/sdk/examples/through-failure.js`
 * with PANDO_ENDPOINTS (two URLs with a comma), PANDO_ACCESS_KEY, PANDO_SECRET_KEY, and PANDO_SECONDS (default 10).
 * Prints one line a second, and at the end the longest wait and the number of errors that it saw; that is its exit code.
 */
import { PandoClient, PandoError } from '../index.ts'

const setting = (name: string, otherwise?: string): string => {
  const value = process.env[name] ?? otherwise
  if (value === undefined) throw new Error(`${name} is not set`)
  return value
}

const client = new PandoClient({
  endpoints: setting('PANDO_ENDPOINTS').split(','),
  credentials: {
    accessKeyId: setting('PANDO_ACCESS_KEY'),
    secretAccessKey: setting('PANDO_SECRET_KEY'),
  },
  attemptTimeoutMs: 2000,
})
const bucket = 'through-failure'
const endMs = Date.now() + Number(setting('PANDO_SECONDS', '10')) * 1000
await client.createBucket(bucket, { ifMissing: true })

const seen = { writes: 0, reads: 0, errors: 0, longestMs: 0 }

async function timed(work: () => Promise<void>): Promise<void> {
  const startMs = performance.now()
  try {
    await work()
  } catch (error) {
    seen.errors += 1
    console.error(error instanceof PandoError ? `${error.code}: ${error.message}` : error)
  }
  seen.longestMs = Math.max(seen.longestMs, performance.now() - startMs)
}

/** Writes a counter, reads it back: what was acknowledged must be there, through whichever endpoint. */
async function worker(name: string): Promise<void> {
  for (let count = 1; Date.now() < endMs; count++) {
    const key = `counter/${name}`
    await timed(async () => {
      await client.put(bucket, key, JSON.stringify({ count }))
      seen.writes += 1
    })
    await timed(async () => {
      const value = await (await client.get(bucket, key)).json()
      seen.reads += 1
      if ((value as { count: number }).count !== count)
        throw new Error(`${key} is ${JSON.stringify(value)}, not ${count}`)
    })
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}

const report = setInterval(
  () => console.log(`${seen.writes} writes, ${seen.reads} reads, ${seen.errors} errors`),
  1000,
)
await Promise.all(['a', 'b', 'c', 'd'].map(worker))
clearInterval(report)
const { writes, reads, errors, longestMs } = seen
console.log(
  `done: ${writes} writes, ${reads} reads, ${errors} errors, longest wait ${Math.round(longestMs)} ms`,
)
process.exitCode = errors === 0 ? 0 : 1
