import { Worker } from 'node:worker_threads'

/**
 * Calls an exported function of a module once for each list of arguments, one after the other, in a thread of its own: node:test
 * watches every promise of the thread that its tests run in, and that costs a simulation four fifths of its time.
 */
export async function runApart<T>(
  module: URL,
  name: string,
  calls: readonly (readonly unknown[])[],
): Promise<readonly T[]> {
  const thread = new Worker(new URL('./apart-thread.js', import.meta.url), {
    workerData: { module: module.href, name, calls },
  })
  try {
    return await new Promise<readonly T[]>((resolve, reject) => {
      thread.once(
        'message',
        ({ results, failure }: { results: readonly T[]; failure: string | undefined }) => {
          if (failure === undefined) resolve(results)
          else reject(new Error(failure))
        },
      )
      thread.once('error', reject)
      thread.once('exit', (code) => reject(new Error(`the thread of the simulation ended with ${code}`)))
    })
  } finally {
    await thread.terminate()
  }
}
