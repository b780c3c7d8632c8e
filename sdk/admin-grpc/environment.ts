import { randomFillSync } from 'node:crypto'
import type { Environment } from '../../core/contract/clock.ts'
import { sleep, webEnvironment } from '../client/environment.ts'

/** Calls are signed with the time and a nonce. */
export const nodeEnvironment: Environment = {
  clock: {
    now: () => webEnvironment.now(),
    monotonic: () => webEnvironment.monotonic(),
    sleep: (delayMs, signal) => sleep(webEnvironment, delayMs, signal),
  },
  randomness: { fill: (target) => randomFillSync(target) },
}
