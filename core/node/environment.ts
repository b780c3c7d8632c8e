import { randomFillSync } from 'node:crypto'
import type { Environment } from '../contract/clock.ts'

/** The real clock and the kernel's randomness: made here and handed to everything else. */
export const realEnvironment: Environment = {
  clock: {
    now: () => Date.now(),
    monotonic: () => performance.now(),
    sleep,
  },
  randomness: {
    fill: (target) => randomFillSync(target),
  },
}

/**
 * Not that of `node:timers/promises`: most sleeps here are deadlines of waits that end sooner, and it makes an error with a stack for
 * each of those.
 */
function sleep(delayMs: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal === undefined) {
      setTimeout(resolve, delayMs)
      return
    }
    if (signal.aborted) {
      reject(signal.reason)
      return
    }
    const onAbort = (): void => {
      clearTimeout(timer)
      reject(signal.reason)
    }
    const timer = setTimeout(() => {
      signal.removeEventListener('abort', onAbort)
      resolve()
    }, delayMs)
    signal.addEventListener('abort', onAbort, { once: true })
  })
}
