import type { PolicyHook } from '../../core/contract/policy.ts'
import { policyIdl } from '../abi/idl.ts'
import type { InputReader, PolicyInputs, PolicyTables } from '../abi/json-values.ts'

/**
 * What every policy is asked before it may serve: ordinary inputs, and each number at the ends of what a host may pass. The same
 * on every node and every day, so that a policy which is let in here is let in everywhere.
 */
export function probeInputs<H extends PolicyHook>(
  hook: H,
  reader: InputReader,
  tables: PolicyTables,
): readonly PolicyInputs[H][] {
  return templates[hook](tables).map((template) => {
    const input = reader.read(hook, template)
    if ('problem' in input) throw new Error(`a probe of ${hook} is not an input: ${input.problem}`)
    return input
  })
}

/** As many items as an input may have. */
const itemsMost = (hook: PolicyHook) => policyIdl.hooks.find(({ name }) => name === hook)?.items?.most ?? 1

type Template = Readonly<Record<string, unknown>>

const operations = ['read', 'write', 'delete', 'list', 'head', 'copy', 'other']
const contexts: readonly Template[] = [
  {},
  { seed: 0xffff_ffff, requestHash: '18446744073709551615', deadlineMs: 1_750_000_000_100 },
  { nowMs: 0, seed: 1, requestHash: '1' },
]

/** Every combination of a context and a template. */
const inContexts = (list: readonly Template[]) =>
  contexts.flatMap((context) => list.map((each) => ({ ...context, ...each })))

const templates: Readonly<Record<PolicyHook, (tables: PolicyTables) => readonly Template[]>> = {
  classify: () =>
    inContexts([
      ...operations.map((operation) => ({ operation, key: `${operation}/key`, byteLength: 4096 })),
      { key: '', byteLength: -1 },
      { key: 'x'.repeat(1024), byteLength: 5 * 2 ** 40, attributes: [1, 2, 3, 4, 5, 6, 7, 0xffff_ffff] },
      { key: 'ключ/鍵/🔑'.repeat(40), byteLength: 0, attributes: ['x-priority=high'] },
    ]),
  admit: ({ classes }) =>
    inContexts([
      ...classes.map((_, classIndex) => ({ classIndex })),
      ...operations.map((operation) => ({ operation, byteLength: 4096 })),
      { tokens: 0, tokenWaitMs: 1 },
      { tokens: -1_000_000, tokenWaitMs: 3_600_000, queueDepth: 1e6, inFlight: 1e6, utilisation: 1 },
      { concurrencyLimit: 0, inFlight: 0, utilisation: 0 },
      { p50Ms: 0, p99Ms: 0, sloMs: 0 },
      { p50Ms: 1e6, p99Ms: 1e7, sloMs: 0.001, queueDepth: 1, utilisation: 1 },
      { byteLength: 5 * 2 ** 40 },
    ]),
  plan: ({ classes }) =>
    inContexts([
      { classes: classes.map((_, classIndex) => ({ classIndex })) },
      { classes: [{ classIndex: 0 }] },
      {
        classes: [
          {
            classIndex: 0,
            weight: 1,
            reservation: 1_000,
            limit: 1_000,
            backlogRequests: 1e9,
            backlogBytes: 1e15,
          },
        ],
      },
      {
        classes: Array.from({ length: itemsMost('plan') }, (_, at) => ({
          classIndex: at % classes.length,
          weight: at + 1,
          reservation: at * 10,
          limit: at % 2 === 0 ? 0 : at * 100,
          p99Ms: at * 1_000,
          sloMs: 5,
          requestsPerSecond: at * 1e5,
          bytesPerSecond: at * 1e9,
        })),
      },
    ]),
  select: () => {
    const bad = {
      transport: 'tcp',
      state: 'down',
      loss: 1,
      health: 0,
      rttP50Ms: 1e6,
      rttP99Ms: 1e7,
      jitterMs: 1e6,
    }
    return inContexts([
      { candidates: [{ transport: 'tcp' }] },
      { candidates: [bad] },
      {
        candidates: [
          { transport: 'tcp', rttP50Ms: 0.2 },
          { transport: 'rdma', rttP50Ms: 0.005, rttP99Ms: 0.006 },
          { transport: 'quic', loss: 0.01, distance: 4 },
          { transport: 'shm', distance: 0, rttP50Ms: 0.001 },
        ],
        currentIndex: 0,
        currentForMs: 10,
      },
      {
        candidates: Array.from({ length: itemsMost('select') }, () => bad),
        currentIndex: itemsMost('select') - 1,
        currentForMs: 1e12,
        sloMs: 1,
      },
      {
        candidates: [{ transport: 'ipoib', rttP50Ms: 0, rttP99Ms: 0, bytesPerSecond: 1e12 }],
        byteLength: 5 * 2 ** 40,
      },
    ])
  },
  resolve: () => {
    const one = { region: 1, hlc: '100', byteLength: 5, etag: '00'.repeat(16), metadata: { a: '1' } }
    const two = { region: 2, hlc: '101', byteLength: 6, etag: 'ff'.repeat(16), metadata: { b: '2' } }
    return inContexts([
      { versions: [one, two] },
      { versions: [two, one] },
      { versions: [one, { ...one, region: 2 }] },
      { versions: [{ ...one, isDeleteMarker: true }, two] },
      { versions: [one, { ...two, hlc: '18446744073709551615', metadata: { large: 'x'.repeat(30_000) } }] },
    ])
  },
}
