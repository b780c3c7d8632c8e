import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { isMainThread } from 'node:worker_threads'
import { cpuSeconds } from './processor-time.mjs'
import { carryTests } from './test-owners.mjs'

// Loaded by every process of a test file (--import). Tests end what they have started when their process exits, which the default
// action of a signal does not count as: a run that is interrupted, or a file that is stopped because it hangs, would leave nodes behind.

if (process.env.NODE_TEST_CONTEXT !== undefined) {
  carryTests()
  for (const [signal, code] of Object.entries({ SIGHUP: 129, SIGINT: 130, SIGTERM: 143 })) {
    process.once(signal, () => process.exit(code))
  }
}

// What a file cost is told to the queue that began it. Threads and processes of a file have this module, too: their time is in the file's.
const { pid, folder } = JSON.parse(process.env.PANDO_TEST_QUEUE ?? '{}')
if (isMainThread && process.ppid === pid) {
  process.once('exit', () => {
    try {
      const cost = { file: process.argv[1], cpuSeconds: cpuSeconds() }
      writeFileSync(join(folder, String(process.pid)), JSON.stringify(cost))
    } catch {
      // The queue was interrupted and has removed the folder: nobody waits for figures.
    }
  })
}
