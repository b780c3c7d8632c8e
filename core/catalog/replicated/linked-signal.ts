import { setMaxListeners } from 'node:events'
import { StorageError } from '../../contract/errors.ts'

/** Aborts with the first of the others. `release` when it is not needed any more: signals that live long would keep it. */
export interface LinkedSignal {
  readonly signal: AbortSignal
  /** Aborts it by itself. */
  abort(reason?: unknown): void
  release(): void
}

// One for all: making an exception for each wait that ends is what costs.
const noLongerNeeded = new StorageError('CANCELLED', 'it is not needed any more')

/** In place of `AbortSignal.any`, which leaves something behind at its sources with every call until it is collected. */
export function linkSignals(...sources: readonly AbortSignal[]): LinkedSignal {
  const controller = new AbortController()
  // As many as there are waits; each takes itself off again.
  setMaxListeners(0, controller.signal)
  const stops: (() => void)[] = []
  const release = (): void => {
    for (const stop of stops.splice(0)) stop()
  }
  const abort = (reason: unknown = noLongerNeeded): void => {
    release()
    controller.abort(reason)
  }
  for (const source of sources) {
    const onAbort = (): void => abort(source.reason)
    if (source.aborted) {
      abort(source.reason)
      break
    }
    source.addEventListener('abort', onAbort, { once: true })
    stops.push(() => source.removeEventListener('abort', onAbort))
  }
  return { signal: controller.signal, abort, release }
}
