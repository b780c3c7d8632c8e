// Time of the JavaScript thread for each completion over the rings, against one threadsafe-function call for each
// in the same run; and memory over ten million operations. `npm run bench -- bridge [--json] [--operations N]`.
import { performance } from 'node:perf_hooks'
import { parseArgs } from 'node:util'
import { silentLogger } from '../../../core/contract/logger.ts'
import { loadAddon } from '../../../native/addon.ts'
import { DataPlanePort, type NativeAddon } from '../../../native/data-plane-port.ts'
import type { RingRequest } from '../../../native/request-ring.ts'

const { values: options } = parseArgs({
  options: { json: { type: 'boolean', default: false }, operations: { type: 'string', default: '10000000' } },
})
const rounds = 7
const perRound = 200_000
const burst = 512

const addon = loadAddon()
if (addon instanceof Error) throw addon

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN
}

/** Time in which this thread was not waiting in the event loop, in ns. */
async function busyNs(work: () => Promise<void>): Promise<number> {
  const before = performance.eventLoopUtilization()
  await work()
  return performance.eventLoopUtilization(before).active * 1e6
}

/** A no-op through both rings, from one preallocated object, so that what is measured is the bridge alone. */
class Nops {
  #left = 0
  #toSubmit = 0
  #done: () => void = () => {}
  readonly #port: DataPlanePort
  /** ns spent in submitting, by this thread's clock. */
  submitNs = 0
  readonly #request: RingRequest = {
    write() {},
    complete: () => {
      this.#left--
      if (this.#left === 0) this.#done()
      else if (this.#left % burst === 0) this.#submitBurst()
    },
    fail: (reason) => {
      throw reason
    },
  }

  constructor(port: DataPlanePort) {
    this.#port = port
  }

  #submitBurst(): void {
    const start = process.hrtime.bigint()
    for (let n = Math.min(burst, this.#toSubmit); n > 0; n--) {
      this.#toSubmit--
      this.#port.requests.submit(this.#request)
    }
    this.submitNs += Number(process.hrtime.bigint() - start)
  }

  run(count: number): Promise<void> {
    this.#left = count
    this.#toSubmit = count
    return new Promise((resolve) => {
      this.#done = resolve
      this.#submitBurst()
      this.#submitBurst()
    })
  }
}

function threadsafeCalls(native: NativeAddon, count: number): Promise<void> {
  return new Promise((resolve) => {
    let left = count
    native.benchThreadsafeCalls(count, () => {
      left--
      if (left === 0) resolve()
    })
  })
}

const port = await DataPlanePort.open(
  addon,
  {
    directory: '',
    backend: 'memory',
    reactors: 1,
    cacheBytes: 0,
    capacityBytes: 1024 * 1024 * 1024,
    sqEntries: 1024,
    cqEntries: 2048,
    slabBytes: 16 * 1024 * 1024,
    digestWorkers: 1,
    digestEntries: 256,
    bdevs: [],
    spdkMemoryBytes: 0,
  },
  silentLogger,
)
const nops = new Nops(port)
// Both compiled before either is measured.
await nops.run(perRound)
await threadsafeCalls(addon, perRound)

const ring: number[] = []
const completion: number[] = []
const threadsafe: number[] = []
for (let round = 0; round < rounds; round++) {
  nops.submitNs = 0
  const total = await busyNs(() => nops.run(perRound))
  ring.push(total / perRound)
  completion.push((total - nops.submitNs) / perRound)
  threadsafe.push((await busyNs(() => threadsafeCalls(addon, perRound))) / perRound)
}

const operations = Number(options.operations)
globalThis.gc?.()
await nops.run(Math.min(operations, 1_000_000))
globalThis.gc?.()
const before = process.memoryUsage()
await nops.run(operations)
globalThis.gc?.()
const after = process.memoryUsage()
await port.close()

const result = {
  ringNsPerCompletion: median(completion),
  ringNsPerOperation: median(ring),
  threadsafeNsPerCompletion: median(threadsafe),
  ratio: median(threadsafe) / median(completion),
  operations,
  residentGrowthBytes: after.rss - before.rss,
  externalGrowthBytes: after.external - before.external,
  heapGrowthBytes: after.heapUsed - before.heapUsed,
  collectedBeforeMeasuring: globalThis.gc !== undefined,
}
if (options.json) console.log(JSON.stringify(result))
else {
  console.log(
    `completion over the rings        ${result.ringNsPerCompletion.toFixed(1)} ns of the JavaScript thread`,
  )
  console.log(`with its submission              ${result.ringNsPerOperation.toFixed(1)} ns`)
  console.log(`threadsafe function, one a call  ${result.threadsafeNsPerCompletion.toFixed(1)} ns`)
  console.log(`ratio                            ${result.ratio.toFixed(1)} x (completion against completion)`)
  const kib = (bytes: number): string => `${Math.round(bytes / 1024)} KiB`
  console.log(
    `growth over ${operations} operations: resident ${kib(result.residentGrowthBytes)}, external ` +
      `${kib(result.externalGrowthBytes)}, heap ${kib(result.heapGrowthBytes)}`,
  )
}
