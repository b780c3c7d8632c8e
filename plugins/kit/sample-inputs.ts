import type { PolicyHook } from '../../core/contract/policy.ts'
import { createInputReader, defaultTables, type PolicyInputs, type PolicyTables } from '../abi/json-values.ts'

/** Inputs like a small region's, for benchmarks of hooks that no vector asks. */
const samples: Readonly<Record<PolicyHook, object>> = {
  select: {
    candidates: [
      { transport: 'tcp', bytesPerSecond: 1.2e9 },
      { transport: 'quic', bytesPerSecond: 9e8 },
      { transport: 'ipoib', rttP50Ms: 0.03, rttP99Ms: 0.06, bytesPerSecond: 4e9 },
      { transport: 'rdma', rttP50Ms: 0.005, rttP99Ms: 0.009, bytesPerSecond: 1.2e10 },
    ],
  },
  classify: { operation: 'write', byteLength: 4096, key: 'photos/2026/11/21/IMG_0001.jpg' },
  admit: { byteLength: 4096, inFlight: 12, utilisation: 0.2, sloMs: 20 },
  plan: {
    classes: [0, 1, 2, 3, 4].map((classIndex) => ({
      classIndex,
      weight: 5 - classIndex,
      sloMs: 50,
      p99Ms: 20,
    })),
  },
  resolve: {
    versions: [
      { region: 1, hlc: '117000000000000000' },
      { region: 2, hlc: '117000000000000001' },
    ],
  },
}

export function sampleInput<H extends PolicyHook>(
  hook: H,
  tables: PolicyTables = defaultTables,
): PolicyInputs[H] {
  const value =
    hook === 'plan' ? { classes: tables.classes.map((_, classIndex) => ({ classIndex })) } : samples[hook]
  const read = createInputReader(tables).read(hook, value)
  if ('problem' in read) throw new Error(read.problem)
  return read
}

/** Numbers from 0 to below 1 that repeat with their seed: mulberry32, by Tommy Ettinger, public domain. */
export function seededNumbers(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296
  }
}

/** Inputs that a host could hand over, with a taste for the extreme ones. */
export function randomInput<H extends PolicyHook>(
  hook: H,
  random: () => number,
  tables: PolicyTables,
): PolicyInputs[H] {
  const below = (count: number) => Math.floor(random() * count)
  const pick = <T>(values: readonly T[]): T => values[below(values.length)] as T
  const count = () => pick([0, 1, 2, 7, 100, 1e4, 1e9, random() * 1000])
  const share = () => pick([0, 1, 0.5, random(), random() / 100])
  const ms = () => pick([0, 0.001, 0.2, 5, 1000, 3.6e6, random() * 100])
  const operation = () => pick(['read', 'write', 'delete', 'list', 'head', 'copy', 'other'] as const)
  const context = {
    nowMs: 1.75e12 + below(1e9),
    deadlineMs: pick([0, 0, 1.75e12 + below(1e9)]),
    seed: below(2 ** 32),
    requestHash: String(BigInt(below(2 ** 32)) * 4294967296n + BigInt(below(2 ** 32))),
    tenant: pick([0, below(tables.tenants.length), 4_000_000_000]),
    bucket: pick([0, below(tables.buckets.length)]),
  }
  const byteLength = () => pick([-1, 0, 1, 4096, 8 << 20, 5e9, 5e12])
  const inputs: Readonly<Record<PolicyHook, () => object>> = {
    select: () => {
      const candidates = Array.from({ length: 1 + below(pick([1, 4, 8, 32])) }, () => ({
        transport: pick(['tcp', 'rdma', 'ipoib', 'shm', 'quic']),
        state: pick(['up', 'up', 'degraded', 'down']),
        distance: below(5),
        rttP50Ms: ms(),
        rttP99Ms: ms(),
        jitterMs: ms(),
        loss: share(),
        bytesPerSecond: count() * 1e6,
        costPerGb: count(),
        load: share(),
        health: share(),
        inFlight: count(),
      }))
      const currentIndex = below(candidates.length + 1) - 1
      return {
        operation: operation(),
        byteLength: byteLength(),
        sloMs: ms(),
        currentIndex,
        currentForMs: ms(),
        candidates,
      }
    },
    classify: () => ({
      operation: operation(),
      byteLength: byteLength(),
      key: pick(['', 'a', 'logs/x', 'ключ/', '\u{1f512}'.repeat(40), 'k'.repeat(below(1024)), '\0"\\']),
      attributes: Array.from({ length: below(9) }, () => below(2 ** 32)),
    }),
    admit: () => ({
      classIndex: below(tables.classes.length),
      operation: operation(),
      byteLength: byteLength(),
      tokens: pick([1e9, 0, 1, -5, -1e6, random() * 10]),
      tokenWaitMs: ms(),
      queueDepth: count(),
      inFlight: count(),
      concurrencyLimit: 1 + count(),
      p50Ms: ms(),
      p99Ms: ms(),
      sloMs: pick([0, ms()]),
      utilisation: share(),
    }),
    plan: () => ({
      classes: Array.from({ length: 1 + below(pick([1, 5, 64])) }, () => {
        const limit = pick([0, 0, count()])
        return {
          classIndex: below(tables.classes.length),
          backlogRequests: count(),
          backlogBytes: count() * 4096,
          requestsPerSecond: count(),
          bytesPerSecond: count() * 4096,
          p99Ms: ms(),
          sloMs: pick([0, ms()]),
          weight: pick([0.01, 1, 10, 1000]),
          // A configuration with a reservation above its limit is refused.
          reservation: Math.min(pick([0, 0, count()]), limit === 0 ? 1e9 : limit),
          limit,
        }
      }),
    }),
    resolve: () => ({
      versions: [0, 1].map(() => ({
        region: below(3),
        hlc: String(pick([0n, 1n, 2n ** 63n, 2n ** 64n - 1n, BigInt(below(2 ** 32))])),
        byteLength: Math.max(0, byteLength()),
        isDeleteMarker: random() < 0.2,
        etag: pick(['', 'ff', 'ab'.repeat(16), '00'.repeat(64)]),
        metadata: pick<object>([{}, { a: 'b' }, { colour: 'grün', n: 'x'.repeat(below(2000)) }]),
      })),
    }),
  }
  const read = createInputReader(tables).read(hook, { ...context, ...inputs[hook]() })
  if ('problem' in read) throw new Error(read.problem)
  return read
}
