import { z } from 'zod'
import type {
  AdmitInput,
  ClassifyInput,
  PlanInput,
  PolicyHook,
  ResolveInput,
  SelectInput,
} from '../../core/contract/policy.ts'
import { fnv1a32 } from './fnv1a.ts'

/**
 * Inputs and decisions as JSON, for golden vectors, traces and people. 64-bit numbers are texts, an ETag is hex, metadata is
 * the JSON object itself; classes, tenants and buckets may be given by name, attributes as `name=value`. What an input leaves
 * out has a default that is no reason for anything, so that a vector says only what matters.
 */

/** The names behind the indexes, as `pando_init` is told. Index 0 of tenants and buckets stands for none. */
export interface PolicyTables {
  readonly classes: readonly string[]
  readonly tenants: readonly string[]
  readonly buckets: readonly string[]
}

export const defaultTables: PolicyTables = {
  classes: ['interactive', 'bulk', 'replication', 'repair', 'background'],
  tenants: [''],
  buckets: [''],
}

export interface PolicyInputs {
  readonly select: SelectInput
  readonly classify: ClassifyInput
  readonly admit: AdmitInput
  readonly plan: PlanInput
  readonly resolve: ResolveInput
}

const finite = z.number()
const unsigned = (bits: number) =>
  z
    .int()
    .min(0)
    .max(2 ** bits - 1)
const wide = z
  .union([z.string().regex(/^\d{1,20}$/, 'a decimal number'), z.int().min(0)])
  .transform((value) => BigInt.asUintN(64, BigInt(value)))
const hex = z
  .string()
  .regex(/^([0-9a-f]{2}){0,64}$/, 'hex, at most 64 bytes')
  .transform((text) => new Uint8Array(Buffer.from(text, 'hex')))
const metadata = z
  .record(z.string(), z.unknown())
  .transform((value) => new TextEncoder().encode(JSON.stringify(value)))

/** Not a union: that would only say that neither fits. */
function index(names: readonly string[], what: string) {
  return z.unknown().transform((value, context): number => {
    if (typeof value === 'number' && Number.isInteger(value) && value >= 0 && value < 65_536) return value
    const at = typeof value === 'string' ? names.indexOf(value) : -1
    if (at < 0) {
      const problem =
        typeof value === 'string' ? `there is no ${what} '${value}'` : `the name or the index of a ${what}`
      context.addIssue({ code: 'custom', message: problem })
    }
    return Math.max(0, at)
  })
}

const operation = z.enum(['read', 'write', 'delete', 'list', 'head', 'copy', 'other'])

function inputSchemas(tables: PolicyTables) {
  const context = {
    nowMs: finite.default(1_750_000_000_000),
    deadlineMs: finite.default(0),
    seed: unsigned(32).default(0),
    requestHash: wide.default(0n),
    tenant: index(tables.tenants, 'tenant').default(0),
    bucket: index(tables.buckets, 'bucket').default(0),
  }
  const classIndex = index(tables.classes, 'class')
  const candidate = z.strictObject({
    transport: z.enum(['tcp', 'rdma', 'ipoib', 'shm', 'quic']),
    state: z.enum(['up', 'degraded', 'down']).default('up'),
    distance: z.int().min(0).max(4).default(3),
    rttP50Ms: finite.default(0.2),
    rttP99Ms: finite.default(0.4),
    jitterMs: finite.default(0.05),
    loss: finite.default(0),
    bytesPerSecond: finite.default(0),
    costPerGb: finite.default(0),
    load: finite.default(0),
    health: finite.default(1),
    inFlight: finite.default(0),
  })
  const planClass = z.strictObject({
    classIndex,
    backlogRequests: finite.default(0),
    backlogBytes: finite.default(0),
    requestsPerSecond: finite.default(0),
    bytesPerSecond: finite.default(0),
    p99Ms: finite.default(0),
    sloMs: finite.default(0),
    weight: finite.default(1),
    reservation: finite.default(0),
    limit: finite.default(0),
  })
  const version = z.strictObject({
    region: unsigned(16),
    hlc: wide,
    byteLength: finite.default(0),
    isDeleteMarker: z.boolean().default(false),
    etag: hex.default(() => new Uint8Array()),
    metadata: metadata.default(() => new TextEncoder().encode('{}')),
  })
  return {
    select: z.strictObject({
      ...context,
      operation: operation.default('other'),
      byteLength: finite.default(-1),
      sloMs: finite.default(0),
      consistency: z.enum(['strong', 'local']).default('strong'),
      currentIndex: z.int().min(-1).max(63).default(-1),
      currentForMs: finite.default(0),
      candidates: z.array(candidate).min(1).max(64),
    }),
    classify: z.strictObject({
      ...context,
      operation: operation.default('read'),
      byteLength: finite.default(-1),
      key: z.string().max(1024).default(''),
      attributes: z
        .array(z.union([unsigned(32), z.string().transform(fnv1a32)]))
        .max(8)
        .default([])
        .transform((values) => Uint32Array.from(values)),
    }),
    admit: z.strictObject({
      ...context,
      classIndex: classIndex.default(0),
      operation: operation.default('read'),
      byteLength: finite.default(0),
      tokens: finite.default(1e9),
      tokenWaitMs: finite.default(0),
      queueDepth: finite.default(0),
      inFlight: finite.default(0),
      concurrencyLimit: finite.default(64),
      p50Ms: finite.default(1),
      p99Ms: finite.default(4),
      sloMs: finite.default(0),
      utilisation: finite.default(0),
    }),
    plan: z.strictObject({ ...context, classes: z.array(planClass).min(1).max(64) }),
    resolve: z.strictObject({ ...context, versions: z.tuple([version, version]) }),
  }
}

/** Reads inputs of one set of tables. */
export interface InputReader {
  /** The input, or what is wrong with it in words. */
  read<H extends PolicyHook>(hook: H, value: unknown): PolicyInputs[H] | { readonly problem: string }
}

export function createInputReader(tables: PolicyTables = defaultTables): InputReader {
  const schemas = inputSchemas(tables)
  return {
    read: (hook, value) => {
      const parsed = schemas[hook].safeParse(value)
      return parsed.success
        ? (parsed.data as PolicyInputs[typeof hook])
        : { problem: describeIssues(parsed.error) }
    },
  }
}

export function describeIssues(error: z.ZodError): string {
  return error.issues
    .slice(0, 3)
    .map(({ path, message }) => `${path.join('.') || 'the value'}: ${message}`)
    .join('; ')
}

/** What crossed, readable: the reverse of `InputReader.read`, also for decisions. */
export function toJsonValue(value: unknown): unknown {
  if (typeof value === 'bigint') return value.toString()
  if (value instanceof Uint32Array) return [...value]
  if (Array.isArray(value)) return value.map(toJsonValue)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(
    Object.entries(value).map(([name, field]) => [
      name,
      field instanceof Uint8Array
        ? name === 'metadata'
          ? parseOrHex(field)
          : Buffer.from(field).toString('hex')
        : toJsonValue(field),
    ]),
  )
}

function parseOrHex(bytes: Uint8Array): unknown {
  const text = Buffer.from(bytes).toString('utf8')
  try {
    return JSON.parse(text)
  } catch {
    return { hex: Buffer.from(bytes).toString('hex') }
  }
}
