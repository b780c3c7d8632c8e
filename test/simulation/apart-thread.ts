import { parentPort, workerData } from 'node:worker_threads'

/** The other side of `runApart`. */
const { module, name, calls } = workerData as {
  readonly module: string
  readonly name: string
  readonly calls: readonly (readonly unknown[])[]
}
const found = (await import(module)) as Readonly<
  Record<string, ((...received: readonly unknown[]) => unknown) | undefined>
>
const work = found[name]
const results: unknown[] = []
let failure: string | undefined
try {
  if (work === undefined) throw new Error(`${module} has no ${name}`)
  for (const received of calls) results.push(await work(...received))
} catch (error) {
  failure = error instanceof Error ? `${error.message}\n${error.stack ?? ''}` : String(error)
}
parentPort?.postMessage({ results, failure })
