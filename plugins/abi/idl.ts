/**
 * `pando-policy/1`: the structs that cross between the host and a policy, described once. From this file are written the
 * host's encoders and decoders, the AssemblyScript classes, the C header and STRUCTS.md (`generate.ts`).
 *
 * Rules that keep old policies and new hosts together:
 * - Flat, little-endian, every field aligned to its own size, every struct a multiple of 8 bytes.
 * - Fields and enum values are only appended, with `since` = the minor version that brought them; nothing is removed,
 *   moved or renumbered within a major version (`released.json` remembers, a test compares).
 * - Guests find items by the lengths in the header, never by the size of their own struct.
 * - What a guest does not write keeps the value of `initial`, which for the heart of a decision is not valid: a policy
 *   that answers "decided" without deciding is found out.
 */

import type { Idl, Range, ScalarType } from './idl-language.ts'

const number = (
  type: ScalarType,
  name: string,
  doc: string,
  more: { initial?: number; range?: Range; sample?: number; since?: number } = {},
) => ({ kind: 'number', type, name, doc, ...more }) as const
const u16 = (name: string, doc: string, more = {}) => number('u16', name, doc, more)
const u32 = (name: string, doc: string, more = {}) => number('u32', name, doc, more)
const f64 = (name: string, doc: string, more = {}) => number('f64', name, doc, more)
const framing = (type: ScalarType, name: string, doc: string) =>
  ({ kind: 'framing', type, name, doc }) as const
const oneOf = (values: string, name: string, doc: string) =>
  ({ kind: 'enum', type: 'u8', values, name, doc }) as const
const reserved = (name: string, type: 'u8' | 'u16' | 'u32', length = 1) =>
  ({ kind: 'reserved', type, length, name, doc: 'zero' }) as const
const reason = u32('reason', "the policy's own code, named in its manifest; 0 = no particular reason")

const mebibyte = 1 << 20

export const policyIdl: Idl = {
  major: 1,
  minor: 2,

  enums: {
    RequestOperation: {
      doc: 'What a request does.',
      values: ['read', 'write', 'delete', 'list', 'head', 'copy', 'other'],
    },
    TransportName: { doc: 'A way to move frames.', values: ['tcp', 'rdma', 'ipoib', 'shm', 'quic'] },
    TransportState: { doc: 'What the prober says.', values: ['up', 'degraded', 'down'] },
    Consistency: { doc: 'What a read waits for.', values: ['strong', 'local'] },
    Verdict: { doc: 'What happens to a request at the door.', values: ['admit', 'delay', 'shed'] },
    Outcome: {
      doc: 'What becomes of two versions in conflict.',
      values: ['first', 'second', 'keep-both', 'merge'],
    },
  },

  header: {
    name: 'Header',
    doc: 'In front of every input: how the rest is laid out, and what makes a policy a pure function.',
    fields: [
      framing('u16', 'structVersion', 'minor version of this ABI that the host speaks'),
      framing('u16', 'headerLen', 'bytes from the start of the input to its first item'),
      framing('u16', 'itemLen', 'bytes from one item to the next; 0 = this hook has none'),
      framing('u16', 'itemCount', 'items'),
      framing('u32', 'flags', 'bit 0: a brief question, which leaves fields at 0 (since 1.1)'),
      u32('seed', '32 random bits, to draw lots with; a replay has the same'),
      f64('nowMs', 'wall clock, ms since the epoch', { sample: 1_750_000_000_000 }),
      f64('deadlineMs', 'ms since the epoch; 0 = none'),
      { kind: 'bigint', type: 'u64', name: 'requestHash', doc: 'stable over the retries of one request' },
      u32('tenant', 'index into `tenants` of the configuration; 0 = none or unknown'),
      u32('bucket', 'index into `buckets` of the configuration; 0 = none or unknown'),
      framing('u16', 'outHeaderLen', 'bytes from the start of the output to its first item'),
      framing('u16', 'outItemLen', 'bytes from one item of the output to the next; 0 = this hook has none'),
      reserved('reserved', 'u32', 3),
    ],
  },

  hooks: [
    {
      name: 'select',
      doc: 'Which transport carries the traffic to a peer.',
      asked: 'on connect, every second for each link, and at once on errors',
      fuel: 20_000,
      brief: [
        'currentIndex',
        'byteLength',
        'currentForMs',
        'transport',
        'state',
        'distance',
        'rttP50Ms',
        'rttP99Ms',
        'jitterMs',
        'loss',
        'bytesPerSecond',
        'costPerGb',
        'load',
        'health',
        'inFlight',
      ],
      input: {
        name: 'SelectInput',
        doc: 'The link that is decided for.',
        fields: [
          oneOf('RequestOperation', 'operation', 'what most of the traffic is; `other` = mixed'),
          oneOf('Consistency', 'consistency', 'what its reads wait for'),
          reserved('reserved', 'u16'),
          number('i32', 'currentIndex', 'the candidate in use; -1 = none yet', { sample: -1 }),
          f64('byteLength', 'of a typical body; -1 = not known', { sample: -1 }),
          f64('sloMs', 'target of the latency; 0 = none'),
          f64('currentForMs', 'how long the current candidate has been in use; 0 without one'),
        ],
      },
      items: {
        name: 'TransportCandidate',
        property: 'candidates',
        most: 32,
        doc: 'A transport that both ends have and a probe has reached. Measurements are of the last 10 s.',
        fields: [
          oneOf('TransportName', 'transport', 'which'),
          oneOf('TransportState', 'state', 'what the prober says'),
          number('u8', 'distance', '0 same host, 1 same rack, 2 same zone, 3 same region, 4 another region', {
            sample: 3,
          }),
          reserved('reserved0', 'u8'),
          reserved('reserved1', 'u32'),
          f64('rttP50Ms', 'round trip, median', { sample: 0.2 }),
          f64('rttP99Ms', 'round trip, 99th percentile', { sample: 0.4 }),
          f64('jitterMs', 'mean difference of neighbouring round trips', { sample: 0.05 }),
          f64('loss', 'share of probes lost, 0 to 1'),
          f64('bytesPerSecond', 'estimated bandwidth; 0 = not known'),
          f64('costPerGb', 'of traffic, in the unit of the configuration; 0 = free'),
          f64('load', 'share of its capacity in use, 0 to 1'),
          f64('health', 'share of recent calls that succeeded, 0 to 1', { sample: 1 }),
          f64('inFlight', 'requests'),
        ],
      },
      output: {
        name: 'SelectDecision',
        doc: 'The transport to use.',
        fields: [
          number('i32', 'index', 'into the candidates', { initial: -1, range: { from: 0, to: 'items' } }),
          number('i32', 'fallbackIndex', 'what to use if that one breaks; -1 = none', {
            initial: -1,
            range: { from: -1, to: 'items' },
          }),
          u32('parallel', 'streams', { initial: 1, range: { from: 1, to: 64 } }),
          u32('chunkBytes', 'largest frame worth sending', {
            initial: 4 * mebibyte,
            range: { from: 4096, to: 4 * mebibyte },
          }),
          reason,
          reserved('reserved', 'u32'),
        ],
      },
    },
    {
      name: 'classify',
      doc: 'Which class a request belongs to.',
      asked: 'once for each request, before admission',
      fuel: 5_000,
      brief: ['nowMs', 'deadlineMs', 'operation', 'byteLength', 'attributes', 'key'],
      input: {
        name: 'ClassifyInput',
        doc: 'The request.',
        fields: [
          oneOf('RequestOperation', 'operation', 'what it does'),
          framing('u8', 'attributeCount', 'attributes that are set'),
          framing('u8', 'keyLength', 'bytes of keyPrefix that are set'),
          framing('u8', 'keyIsLonger', '1 = the key goes on behind the prefix'),
          reserved('reserved', 'u32'),
          f64('byteLength', 'of the body; -1 = not known', { sample: -1 }),
          {
            kind: 'array',
            type: 'u32',
            length: 8,
            countField: 'attributeCount',
            name: 'attributes',
            doc: 'FNV-1a 32 of `name=value` of the attributes that the configuration names',
          },
          {
            kind: 'text',
            type: 'u8',
            length: 128,
            lengthField: 'keyLength',
            moreField: 'keyIsLonger',
            property: 'key',
            name: 'keyPrefix',
            doc: 'beginning of the key, UTF-8, whole characters',
          },
        ],
      },
      output: {
        name: 'ClassifyDecision',
        doc: 'The class.',
        fields: [
          u16('classIndex', 'index into `classes` of the configuration', {
            initial: 0xffff,
            range: { from: 0, to: 'classes' },
          }),
          number('u8', 'priority', '0 (last) to 255 (first), within the class', {
            range: { from: 0, to: 255 },
          }),
          reserved('reserved', 'u8'),
          reason,
        ],
      },
    },
    {
      name: 'admit',
      doc: 'Whether a request may begin.',
      asked: 'for each request, and again after a delay',
      fuel: 5_000,
      brief: [
        'seed',
        'nowMs',
        'deadlineMs',
        'classIndex',
        'tokens',
        'tokenWaitMs',
        'p50Ms',
        'p99Ms',
        'sloMs',
        'utilisation',
      ],
      byValue: true,
      input: {
        name: 'AdmitInput',
        doc: 'The request and the state of what it wants to use.',
        fields: [
          oneOf('RequestOperation', 'operation', 'what it does'),
          reserved('reserved0', 'u8'),
          u16('classIndex', 'index into `classes` of the configuration'),
          reserved('reserved1', 'u32'),
          f64('byteLength', 'of the body; -1 = not known'),
          f64(
            'tokens',
            'left of the tightest budget that applies, in requests, may be below 0; 1e9 = no budget',
            { sample: 1e9 },
          ),
          f64('tokenWaitMs', 'until that budget has a token again; 0 = it has one'),
          f64('queueDepth', 'requests of the class that wait'),
          f64('inFlight', 'requests of the class under way'),
          f64('concurrencyLimit', 'requests that may be under way at once', { sample: 64 }),
          f64('p50Ms', 'latency of the class over the last seconds, median', { sample: 1 }),
          f64('p99Ms', '99th percentile of it', { sample: 4 }),
          f64('sloMs', 'target of the class; 0 = none'),
          f64('utilisation', 'of the concurrency limit, 0 to 1'),
        ],
      },
      output: {
        name: 'AdmitDecision',
        doc: 'The verdict.',
        fields: [
          oneOf('Verdict', 'verdict', 'what happens'),
          reserved('reserved0', 'u8', 3),
          reason,
          f64('delayMs', 'how long to wait before asking again (delay), or what Retry-After says (shed)', {
            range: { from: 0, to: 3_600_000 },
          }),
        ],
      },
    },
    {
      name: 'plan',
      doc: 'How the classes share the machine.',
      asked: 'once a tick, not for a request',
      fuel: 100_000,
      brief: ['requestsPerSecond', 'p99Ms', 'sloMs', 'weight', 'reservation', 'limit'],
      input: { name: 'PlanInput', doc: 'Nothing beside the header.', fields: [] },
      items: {
        name: 'PlanClass',
        property: 'classes',
        most: 64,
        doc: 'A class, what it did in the last tick, and what the configuration wants for it.',
        fields: [
          u16('classIndex', 'index into `classes` of the configuration'),
          reserved('reserved0', 'u16'),
          reserved('reserved1', 'u32'),
          f64('backlogRequests', 'requests that wait'),
          f64('backlogBytes', 'bytes of their bodies'),
          f64('requestsPerSecond', 'served'),
          f64('bytesPerSecond', 'served'),
          f64('p99Ms', 'latency, 99th percentile'),
          f64('sloMs', 'target of it; 0 = none'),
          f64('weight', 'as configured', { sample: 1 }),
          f64('reservation', 'as configured, cost units a second'),
          f64('limit', 'as configured, cost units a second; 0 = none'),
        ],
      },
      output: {
        name: 'PlanDecision',
        doc: 'In front of the plan.',
        fields: [reason, reserved('reserved', 'u32')],
      },
      outputItems: {
        name: 'PlannedClass',
        property: 'classes',
        most: 64,
        doc: 'What the schedulers enforce (mClock: Gulati et al., OSDI 2010). One unit is one request of at most 4 KiB.',
        fields: [
          f64('weight', 'share of what reservations leave; less than 0.001 counts as 0.001', {
            range: { from: 0, open: true, to: 1e6 },
          }),
          f64(
            'reservation',
            'units a second that the class gets in any case; 0 = none, less than 0.001 counts as 0.001',
            {
              range: { from: 0, to: 1e9 },
            },
          ),
          f64(
            'limit',
            'units a second that it never exceeds; 0 = no limit, less than 0.001 counts as 0.001',
            { range: { from: 0, to: 1e9 } },
          ),
          f64('burst', 'units that may be taken at once after idleness', { range: { from: 0, to: 1e9 } }),
        ],
      },
    },
    {
      name: 'resolve',
      doc: 'What becomes of one key that two regions changed.',
      asked: 'once for each conflict, in the region that made the newer version; the older one comes first',
      fuel: 100_000,
      brief: ['region', 'hlc'],
      byValue: true,
      input: {
        name: 'ResolveInput',
        doc: 'Nothing beside the header; the two versions are the items.',
        fields: [],
      },
      items: {
        name: 'ConflictVersion',
        property: 'versions',
        most: 2,
        doc: 'One side of the conflict.',
        fields: [
          u32('region', 'id of the region that wrote it'),
          { kind: 'flag', type: 'u32', name: 'isDeleteMarker', doc: '1 = it deletes the object' },
          {
            kind: 'bigint',
            type: 'u64',
            name: 'hlc',
            doc: 'hybrid logical clock, as the catalog orders versions',
          },
          f64('byteLength', 'of the object'),
          { kind: 'blob', type: 'u32', most: 64, name: 'etag', doc: 'its ETag' },
          { kind: 'blob', type: 'u32', most: 65_536, name: 'metadata', doc: 'user metadata as JSON, UTF-8' },
        ],
      },
      // Each of the four blobs begins at a multiple of 4.
      inputBlobBytes: 65_536 + 2 * 64 + 4 * 4,
      output: {
        name: 'ResolveDecision',
        doc: 'The outcome.',
        fields: [
          oneOf('Outcome', 'outcome', 'what becomes of them'),
          reserved('reserved0', 'u8', 3),
          reason,
          {
            kind: 'blob',
            type: 'u32',
            most: 65_536,
            name: 'metadata',
            doc: 'with `merge`: the metadata of the result as JSON, UTF-8, behind this struct',
          },
        ],
      },
      outputBlobBytes: 65_536,
    },
  ],
}

/** What crosses beside the structs; see STRUCTS.md. */
export const abiNames = {
  /** The import module; its number is the major version, readable before any code runs. */
  importModule: 'pando1',
  log: 'log',
  memory: 'memory',
  /** Exported i32 global: major << 16 | minor. */
  version: 'pando_abi',
  allocate: 'pando_alloc',
  initialise: 'pando_init',
  errorAddress: 'pando_error_ptr',
  errorLength: 'pando_error_len',
  /** Optional, since 1.2: (number of a hook, in the order here) -> 0 when the configuration leaves it nothing to decide there. */
  wants: 'pando_wants',
  hookPrefix: 'pando_',
  /** Of the function that answers a brief question by value: `pando_HOOK_brief`. */
  briefSuffix: '_brief',
  manifestSection: 'pando.manifest',
  vectorsSection: 'pando.vectors',
} as const

/** What a hook answers; below 0 is an error of the policy. `askWhole` answers a brief question only: the whole one follows at once. */
export const hookStatus = { decided: 0, abstain: 1, askWhole: 2 } as const

/** Bits of `flags` in the header. */
export const headerFlags = { brief: 1 } as const

/** Bounds of what surrounds the calls. Bytes; fuel as in hooks. */
export const abiBounds = {
  /** Of the module: it has to fit into one record of a region's log, with what goes with it. */
  moduleBytes: (1 << 20) - 4096,
  memoryBytes: 4 << 20,
  /** More than a policy in AssemblyScript can look through within the fuel of `pando_init`. */
  configBytes: 32 << 10,
  errorBytes: 1024,
  logLineBytes: 1024,
  manifestBytes: 64 << 10,
  vectorsBytes: 256 << 10,
  /** Different settings in the vectors of a module: each takes an instance of its own. */
  vectorSettings: 256,
  initialiseFuel: 5_000_000,
} as const
