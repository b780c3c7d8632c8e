import type { PolicyHook } from '../../../core/contract/policy.ts'
import { createInputReader, defaultTables, type PolicyInputs } from '../../../plugins/abi/json-values.ts'

/** What both sides are asked, 64 questions for each hook. */
const reader = createInputReader()
function inputsOf<H extends PolicyHook>(
  hook: H,
  make: (index: number) => object,
): readonly PolicyInputs[H][] {
  return Array.from({ length: 64 }, (_, index) => {
    const context = {
      requestHash: String(index * 7919),
      seed: index * 67_108_859,
      deadlineMs: index % 4 === 0 ? 1_750_000_000_500 : 0,
    }
    const input = reader.read(hook, { ...context, ...make(index) })
    if ('problem' in input) throw new Error(input.problem)
    return input
  })
}

const operations = ['read', 'write', 'head', 'list']
const transports = ['tcp', 'rdma', 'ipoib', 'quic']
export const inputs: { readonly [H in PolicyHook]: readonly PolicyInputs[H][] } = {
  select: inputsOf('select', (index) => ({
    currentIndex: (index % 5) - 1,
    currentForMs: index * 500,
    candidates: transports.map((transport, at) => ({
      transport,
      rttP50Ms: 0.005 * (1 + ((index + at) % 7)),
      rttP99Ms: 0.02 * (1 + (index % 3)),
      loss: index % 11 === 0 ? 0.01 : 0,
      load: (index % 10) / 10,
      inFlight: index,
      bytesPerSecond: 1e9,
    })),
  })),
  classify: inputsOf('classify', (index) => ({
    operation: operations[index % 4],
    key: `${index % 7 === 0 ? 'backup' : 'photos/2026'}/${index}/img-000${index}.jpg`,
    attributes: index % 8 === 0 ? ['x-purpose=backup'] : ['x-purpose=none', 'x-tier=hot'],
    byteLength: index % 5 === 0 ? 1e8 : 4096,
  })),
  admit: inputsOf('admit', (index) => ({
    operation: operations[index % 4],
    classIndex: index % 5,
    tokens: index % 3,
    tokenWaitMs: index,
    sloMs: 10,
    p50Ms: 1,
    p99Ms: index,
    utilisation: (index % 10) / 10,
    inFlight: index,
  })),
  plan: inputsOf('plan', (index) => ({
    classes: defaultTables.classes.map((_, classIndex) => ({
      classIndex,
      weight: classIndex + 1,
      sloMs: 10,
      p99Ms: index,
      limit: index % 2 === 0 ? 0 : 1000,
      reservation: 100,
      requestsPerSecond: index * 10,
    })),
  })),
  resolve: inputsOf('resolve', (index) => ({
    versions: [
      { region: 1, hlc: String(index * 31), etag: '00'.repeat(16) },
      { region: 2, hlc: String(1000 - index), etag: 'ff'.repeat(16) },
    ],
  })),
}
