// A process (or worker) that ends in a certain way while the data plane is busy. Run by bridge-teardown.test.ts:
// node bridge-child.js <scenario> <directory> <backend>
import { openSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { isMainThread, Worker, workerData } from 'node:worker_threads'
import type { ChunkStore } from '../../../core/contract/chunk-store.ts'
import { silentLogger } from '../../../core/contract/logger.ts'
import { openChunkStore } from '../../../native/addon.ts'
import { pattern, testId } from '../../kit/chunk-store-place.ts'

type Backend = 'uring' | 'memory'
const mebibyte = 1024 * 1024

function open(directory: string, backend: Backend): Promise<ChunkStore> {
  const sizes = { capacityBytes: 512 * mebibyte, poolBytes: 32 * mebibyte, cacheBytes: 8 * mebibyte }
  return openChunkStore({ directory, backend, reactors: 1, ...sizes, log: silentLogger })
}

/** Starts 300 puts and digests; each acknowledged put is noted in a file at once, past any buffering. */
async function startWork(store: ChunkStore, directory: string): Promise<{ done: Promise<unknown> }> {
  const acknowledged = openSync(join(directory, 'acknowledged'), 'a')
  const work: Promise<unknown>[] = []
  for (let seed = 0; seed < 300; seed++) {
    const buffer = await store.acquire(20_000)
    buffer.bytes.set(pattern(seed, 20_000))
    const digest = store.digest(['md5', 'sha256'])
    work.push(
      Promise.all([
        digest.update(buffer, 0, 20_000),
        digest.finish(),
        store.put(testId(seed), buffer, 20_000).then(() => writeSync(acknowledged, `${seed}\n`)),
        store.has(testId(seed)),
      ]).finally(() => buffer.release()),
    )
  }
  return { done: Promise.all(work) }
}

const soon = (turns: number): Promise<void> =>
  turns === 0 ? Promise.resolve() : new Promise((resolve) => setImmediate(() => resolve(soon(turns - 1))))

async function run(scenario: string, directory: string, backend: Backend): Promise<void> {
  if (scenario === 'exit-while-opening') {
    void open(directory, backend)
    process.exit(7)
  }
  const store = await open(directory, backend)
  if (scenario === 'idle') return
  const { done } = await startWork(store, directory)
  done.catch(() => undefined)
  switch (scenario) {
    case 'exit-busy':
      await soon(3)
      return process.exit(7)
    case 'throw-busy':
      setImmediate(() => {
        throw new Error('on purpose')
      })
      return
    case 'exit-while-closing':
      void store.close()
      await soon(1)
      return process.exit(7)
    case 'end-busy':
      // Nothing else keeps the process alive: the requests under way must.
      return
    case 'close-busy':
      await Promise.allSettled([store.close(), store.close(), done])
      return
    default:
      throw new Error(`no scenario ${scenario}`)
  }
}

async function runWorkers(scenario: string, directory: string, backend: Backend): Promise<void> {
  for (let round = 0; round < 4; round++) {
    const inner = scenario === 'worker-terminate' ? 'end-busy' : 'exit-busy'
    const worker = new Worker(fileURLToPath(import.meta.url), {
      workerData: { scenario: inner, directory, backend },
    })
    const ended = new Promise((resolve) => worker.once('exit', resolve))
    if (scenario === 'worker-terminate') {
      await new Promise((resolve) => setTimeout(resolve, 150 + 100 * round))
      await worker.terminate()
    }
    await ended
  }
  // Whatever the workers left behind, the directory must be free and sound.
  const store = await open(directory, backend)
  await store.close()
}

if (!isMainThread) {
  const { scenario, directory, backend } = workerData
  await run(scenario, directory, backend)
} else {
  const [scenario = '', directory = '', backend = ''] = process.argv.slice(2)
  const chosen = backend === 'memory' ? 'memory' : 'uring'
  await (scenario.startsWith('worker-') ? runWorkers : run)(scenario, directory, chosen)
}
