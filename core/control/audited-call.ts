import type { Clock } from '../contract/clock.ts'
import type { StorageError } from '../contract/errors.ts'

/** An admin call as it ended, for the audit log. */
export interface AuditedCall {
  /** admin: gRPC. console: HTTP, and what is done at its door (`Login`, `Logout`). */
  readonly via: 'admin' | 'console'
  readonly method: string
  /** Access key id of whoever proved to have it; `local`: it came through the socket; `anonymous`: nobody proved who he is. */
  readonly actor: string
  /** Address of the caller; empty: this machine's socket. */
  readonly from: string
  readonly resource: Readonly<Record<string, string>>
  readonly error: StorageError | undefined
}

export type TellAudit = (call: AuditedCall) => void

/** What somebody does who never proved who he is, at most so often: knocking a thousand times a second fills no disk. */
export const strangerTellMs = 1_000

/** Decides for all doors alike which calls are told, and what of them. */
export interface CallAudit {
  /** A call that ended, well or refused; looks are left out. `message`: as the proto file reads it. */
  call(call: {
    readonly method: string
    readonly actor: string
    readonly from: string
    readonly message: unknown
    readonly error: StorageError | undefined
  }): void
  /** A call without proof of who asks, whatever it asked: at most one in `strangerTellMs`. */
  stranger(method: string, from: string, error: StorageError): void
  /** A call of a key that may make none, whatever it asked: at most one in `strangerTellMs`, too. */
  denied(method: string, actor: string, from: string, error: StorageError): void
}

export function createCallAudit(
  via: AuditedCall['via'],
  clock: Clock,
  tell: TellAudit | undefined,
): CallAudit {
  let strangerMs = Number.NEGATIVE_INFINITY
  let deniedMs = Number.NEGATIVE_INFINITY
  return {
    call({ method, actor, from, message, error }) {
      if (isLook(method)) return
      tell?.({ via, method, actor, from, error, resource: namesIn(message) })
    },
    stranger(method, from, error) {
      const now = clock.monotonic()
      if (now - strangerMs < strangerTellMs) return
      strangerMs = now
      tell?.({ via, method, actor: 'anonymous', from, error, resource: {} })
    },
    denied(method, actor, from, error) {
      const now = clock.monotonic()
      if (now - deniedMs < strangerTellMs) return
      deniedMs = now
      tell?.({ via, method, actor, from, error, resource: {} })
    },
  }
}

/**
 * Calls that change nothing. A list and no pattern: a method that nobody thought of is told, and `CompareReplication`, which repairs
 * what it finds, is none of them.
 */
const looks: ReadonlySet<string> = new Set([
  'ExplainPolicy',
  'GetCluster',
  'GetFailover',
  'GetFailoverLosses',
  'GetFederation',
  'GetLinks',
  'GetLocks',
  'GetMetrics',
  'GetPolicyStatus',
  'GetRegionConfig',
  'GetReplication',
  'GetSharing',
  'GetStats',
  'GetStatus',
  'ListBuckets',
  'ListKeys',
  'ListPolicies',
  'PlanFailover',
  'RecordPolicies',
  'StatBucket',
])

export const isLook = (method: string): boolean => looks.has(method)

/** What a call is about, by the names of fields that hold nothing but names. */
const nameFields = [
  'name',
  'bucket',
  'account',
  'accessKeyId',
  'node',
  'group',
  'region',
  'regionId',
  'policy',
  'hook',
  'digest',
  'enabled',
  'repair',
  // Lists: what is taken of a region, and where a key or a policy goes.
  'accepts',
  'regions',
] as const

/** Never a secret or a token: those have fields of their own. */
export function namesIn(message: unknown): Readonly<Record<string, string>> {
  if (typeof message !== 'object' || message === null) return {}
  const fields = message as Readonly<Record<string, unknown>>
  return Object.fromEntries(
    nameFields.flatMap((field) => {
      const value = fields[field]
      const isNames = isName(value) || (Array.isArray(value) && value.every(isName))
      return isNames && value !== '' ? [[field, String(value).slice(0, 256)]] : []
    }),
  )
}

const isName = (value: unknown): boolean =>
  typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean'
