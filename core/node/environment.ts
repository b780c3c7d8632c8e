import { randomFillSync } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import type { Environment } from '../contract/clock.ts'

/** The real clock and the kernel's randomness: made here and handed to everything else. */
export const realEnvironment: Environment = {
  clock: {
    now: () => Date.now(),
    monotonic: () => performance.now(),
    async sleep(delayMs, signal) {
      await delay(delayMs, undefined, signal === undefined ? {} : { signal })
    },
  },
  randomness: {
    fill: (target) => randomFillSync(target),
  },
}
