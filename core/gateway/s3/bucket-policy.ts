import { keyName } from '../../contract/accounts.ts'
import { StorageError } from '../../contract/errors.ts'
import type { Identity } from './operation.ts'
import { type Condition, type ConditionContext, compileCondition } from './policy-conditions.ts'
import { compilePattern, matchPattern, type Pattern, type Variables } from './policy-pattern.ts'

/**
 * Bucket policies: parsed and checked once, then evaluated per request. Explicit Deny wins, then Allow, else `none`.
 * https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_grammar.html
 */
export const maxPolicyBytes = 20 * 1024

export interface BucketPolicy {
  readonly statements: readonly Statement[]
}

export interface Statement {
  readonly allow: boolean
  readonly principals: Principals
  readonly actions: Matcher
  readonly resources: Matcher
  readonly conditions: readonly Condition[]
}

interface Matcher {
  readonly negated: boolean
  readonly patterns: readonly Pattern[]
}

interface Principals {
  /** NotPrincipal: the statement is for everyone but these. */
  readonly negated: boolean
  readonly everyone: boolean
  readonly named: readonly NamedPrincipal[]
}

type NamedPrincipal =
  | { readonly kind: 'account'; readonly account: string }
  | { readonly kind: 'key'; readonly account: string; readonly accessKeyId: string }
  | { readonly kind: 'either'; readonly id: string }
  /** Services and federated identities: valid, and nobody who comes in through this gateway. */
  | { readonly kind: 'nobody' }

export interface PolicyRequest {
  readonly identity: Identity
  /** Such as `s3:GetObject`. */
  readonly action: string
  /** Such as `arn:aws:s3:::bucket/key`. */
  readonly resource: string
  readonly context: ConditionContext
}

export type PolicyEffect = 'allow' | 'deny' | 'none'

/**
 * While a value is open (`ConditionContext.isOpen`), an Allow that depends on it counts and a Deny does not: `none` and `deny` are certain, and
 * who gets `allow` is to be asked about again.
 */
export function evaluatePolicy(policy: BucketPolicy, request: PolicyRequest): PolicyEffect {
  let openValues = 0
  const context: ConditionContext = {
    values(key) {
      if (request.context.isOpen?.(key) === true) openValues += 1
      return request.context.values(key)
    },
  }
  const variables: Variables = (name) => {
    const values = context.values(name)
    return values?.length === 1 ? values[0] : undefined
  }
  /** Whether it is so, or could be yet. */
  const may = (isSo: () => boolean): boolean => {
    const before = openValues
    return isSo() || openValues > before
  }
  const action = request.action.toLowerCase()
  let allowed = false
  for (const statement of policy.statements) {
    if (allowed && statement.allow) continue
    if (!matchesPrincipal(statement, request.identity)) continue
    const before = openValues
    if (!may(() => matches(statement.actions, action, variables))) continue
    if (!may(() => matches(statement.resources, request.resource, variables))) continue
    if (!statement.conditions.every((condition) => may(() => condition.holds(context, variables)))) continue
    if (statement.allow) allowed = true
    else if (openValues === before) return 'deny'
  }
  return allowed ? 'allow' : 'none'
}

function matches(matcher: Matcher, text: string, variables: Variables): boolean {
  return matcher.patterns.some((pattern) => matchPattern(pattern, text, variables)) !== matcher.negated
}

function matchesPrincipal(
  { principals, allow }: Pick<Statement, 'principals' | 'allow'>,
  identity: Identity,
): boolean {
  const { everyone, named, negated } = principals
  // A Deny that names another region's key by its id alone is meant for it, too.
  const isDenied = !allow && !negated
  const hit = everyone || named.some((principal) => isPrincipal(principal, identity, isDenied))
  return hit !== negated
}

function isPrincipal(principal: NamedPrincipal, identity: Identity, byIdAlone: boolean): boolean {
  if (identity.kind === 'anonymous') return false
  switch (principal.kind) {
    case 'account':
      return principal.account === identity.account
    case 'key':
      return principal.account === identity.account && principal.accessKeyId === identity.accessKeyId
    case 'either':
      return (
        principal.id === identity.account ||
        principal.id === keyName(identity.accessKeyId, identity.account) ||
        (byIdAlone && principal.id === identity.accessKeyId)
      )
    case 'nobody':
      return false
  }
}

/** Conditions that pin a request to something an anonymous stranger cannot choose; with one, `*` is not public. */
const narrowingKeys = new Set([
  'aws:sourcearn',
  'aws:sourcevpc',
  'aws:sourcevpce',
  'aws:sourceowner',
  'aws:sourceaccount',
  'aws:sourceip',
  'aws:userid',
  'aws:username',
  'aws:principalarn',
  'aws:principalaccount',
  'aws:principalorgid',
  's3:dataaccesspointarn',
  's3:dataaccesspointaccount',
])

/**
 * The meaning of "public" in PolicyStatus and BlockPublicPolicy: a statement that allows everyone and is not narrowed to
 * fixed callers. https://docs.aws.amazon.com/AmazonS3/latest/userguide/access-control-block-public-access.html
 */
export function isPublicPolicy(policy: BucketPolicy): boolean {
  return policy.statements.some(
    (statement) =>
      statement.allow &&
      (statement.principals.everyone || statement.principals.negated) &&
      !statement.conditions.some((condition) => condition.pinsValues && narrowingKeys.has(condition.key)),
  )
}

/** Throws MALFORMED_POLICY with the reason; `bucket` is the bucket that the policy is for. */
export function parseBucketPolicy(text: string, bucket: string): BucketPolicy {
  if (Buffer.byteLength(text) > maxPolicyBytes) {
    throw malformed(`Policies must be at most ${maxPolicyBytes} bytes`)
  }
  let document: unknown
  try {
    document = JSON.parse(text)
  } catch (cause) {
    throw malformed("Policies must be valid JSON and the first byte must be '{'", cause)
  }
  if (!isRecord(document)) throw malformed("Policies must be valid JSON and the first byte must be '{'")
  onlyKeys(document, ['Version', 'Id', 'Statement'])
  const version = own(document, 'Version')
  if (version !== undefined && version !== '2012-10-17' && version !== '2008-10-17') {
    throw malformed('The policy must contain a valid version string')
  }
  const id = own(document, 'Id')
  if (id !== undefined && typeof id !== 'string') throw malformed('Policy Id must be a string')
  const raw = own(document, 'Statement')
  const statements = Array.isArray(raw) ? raw : [raw]
  if (raw === undefined || statements.length === 0) throw malformed('Missing required field Statement')
  const variables = version === '2012-10-17'
  return { statements: statements.map((statement) => parseStatement(statement, bucket, variables)) }
}

const statementKeys = [
  'Sid',
  'Effect',
  'Principal',
  'NotPrincipal',
  'Action',
  'NotAction',
  'Resource',
  'NotResource',
  'Condition',
]

function parseStatement(raw: unknown, bucket: string, variables: boolean): Statement {
  if (!isRecord(raw)) throw malformed('Statement must be an object')
  onlyKeys(raw, statementKeys)
  const sid = own(raw, 'Sid')
  if (sid !== undefined && typeof sid !== 'string') throw malformed('Sid must be a string')
  const effect = own(raw, 'Effect')
  if (effect !== 'Allow' && effect !== 'Deny') throw malformed('Invalid effect: it must be Allow or Deny')
  const allow = effect === 'Allow'
  const principals = parsePrincipals(raw, allow)
  const actions = parseMatcher(raw, 'Action', (value) => {
    if (value !== '*' && !/^s3:[A-Za-z*?]+$/i.test(value)) throw malformed('Policy has invalid action')
    return compilePattern(value.toLowerCase(), { wildcards: true, variables: false })
  })
  const resources = parseMatcher(raw, 'Resource', (value) => parseResource(value, bucket, variables))
  return {
    allow,
    principals,
    actions,
    resources,
    conditions: parseConditions(own(raw, 'Condition'), variables),
  }
}

function parseMatcher(
  raw: Record<string, unknown>,
  name: 'Action' | 'Resource',
  compile: (value: string) => Pattern,
): Matcher {
  const plain = own(raw, name)
  const negative = own(raw, `Not${name}`)
  if (plain === undefined && negative === undefined) throw malformed(`Missing required field ${name}`)
  if (plain !== undefined && negative !== undefined)
    throw malformed(`${name} and Not${name} exclude each other`)
  const values = strings(plain ?? negative)
  if (values === undefined || values.length === 0) throw malformed(`Policy has invalid ${name.toLowerCase()}`)
  return { negated: negative !== undefined, patterns: values.map(compile) }
}

const resourcePrefix = 'arn:aws:s3:::'

function parseResource(value: string, bucket: string, variables: boolean): Pattern {
  if (value.length > 2048) throw malformed('Policy has invalid resource')
  if (value !== '*') {
    if (!value.startsWith(resourcePrefix) || value.length === resourcePrefix.length) {
      throw malformed('Policy has invalid resource')
    }
    // A policy speaks of its own bucket only: `arn:aws:s3:::other/*` is a mistake worth refusing.
    const name = value.slice(resourcePrefix.length).split('/', 1)[0] ?? ''
    const pattern = compilePattern(name, { wildcards: true, variables: false })
    if (!name.includes('${') && !matchPattern(pattern, bucket)) throw malformed('Policy has invalid resource')
  }
  return compilePattern(value, { wildcards: true, variables })
}

function parsePrincipals(raw: Record<string, unknown>, allow: boolean): Principals {
  const plain = own(raw, 'Principal')
  const negative = own(raw, 'NotPrincipal')
  if (plain === undefined && negative === undefined) throw malformed('Missing required field Principal')
  if (plain !== undefined && negative !== undefined)
    throw malformed('Principal and NotPrincipal exclude each other')
  const negated = negative !== undefined
  // "Everyone but these" as an Allow opens the bucket to strangers by accident; S3 refuses it.
  if (negated && allow) throw malformed('Allow with NotPrincipal is not allowed')
  const value = plain ?? negative
  if (value === '*') return { negated, everyone: true, named: [] }
  if (!isRecord(value)) throw malformed('Invalid principal in policy')
  let everyone = false
  const named: NamedPrincipal[] = []
  for (const [kind, entry] of Object.entries(value)) {
    const ids = strings(entry)
    if (ids === undefined || ids.length === 0) throw malformed('Invalid principal in policy')
    for (const id of ids) {
      if (kind === 'AWS' && id === '*') everyone = true
      else named.push(parsePrincipal(kind, id))
    }
  }
  if (!everyone && named.length === 0) throw malformed('Invalid principal in policy')
  return { negated, everyone, named }
}

function parsePrincipal(kind: string, id: string): NamedPrincipal {
  if (kind === 'Service' || kind === 'Federated') return { kind: 'nobody' }
  if (kind === 'CanonicalUser' && id !== '') return { kind: 'account', account: id }
  if (kind !== 'AWS' || id === '') throw malformed('Invalid principal in policy')
  if (!id.startsWith('arn:')) {
    if (/[*?\s]/.test(id)) throw malformed('Invalid principal in policy')
    return { kind: 'either', id }
  }
  const match = /^arn:aws:iam::([^:]*):(root|(?:user|role|assumed-role)\/[^*?]+)$/.exec(id)
  const account = match?.[1]
  const name = match?.[2]
  if (account === undefined || name === undefined) throw malformed('Invalid principal in policy')
  if (name === 'root') {
    if (account === '') throw malformed('Invalid principal in policy')
    return { kind: 'account', account }
  }
  if (!name.startsWith('user/')) return { kind: 'nobody' }
  const user = name.slice(name.lastIndexOf('/') + 1)
  // An ARN without an account names the account as its user: the form other S3 servers write.
  return account === '' ? { kind: 'account', account: user } : { kind: 'key', account, accessKeyId: user }
}

function parseConditions(raw: unknown, variables: boolean): Condition[] {
  if (raw === undefined) return []
  if (!isRecord(raw)) throw malformed('Invalid Condition in policy')
  const conditions: Condition[] = []
  for (const [operator, block] of Object.entries(raw)) {
    if (!isRecord(block)) throw malformed('Invalid Condition in policy')
    for (const [key, value] of Object.entries(block)) {
      const values = scalars(value)
      if (values === undefined || values.length === 0) throw malformed('Invalid Condition value in policy')
      if (!/^(aws|s3|jwt|saml|ldap|svc):\S/i.test(key)) throw malformed('Policy has an invalid condition key')
      const compiled = compileCondition(operator, key, values, { variables })
      if (!compiled.ok) throw malformed(compiled.reason)
      conditions.push(compiled.value)
    }
  }
  return conditions
}

function malformed(reason: string, cause?: unknown): StorageError {
  return new StorageError('MALFORMED_POLICY', reason, { cause })
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** Reads only what the document itself says: a `__proto__` in it is just another (unknown) field. */
function own(record: Record<string, unknown>, key: string): unknown {
  return Object.hasOwn(record, key) ? record[key] : undefined
}

function onlyKeys(record: Record<string, unknown>, known: readonly string[]): void {
  for (const key of Object.keys(record)) {
    if (!known.includes(key)) throw malformed(`Unknown field ${key.slice(0, 64)}`)
  }
}

function strings(value: unknown): readonly string[] | undefined {
  const list: readonly unknown[] = Array.isArray(value) ? value : [value]
  return list.every((item): item is string => typeof item === 'string') ? list : undefined
}

function scalars(value: unknown): readonly string[] | undefined {
  const list: readonly unknown[] = Array.isArray(value) ? value : [value]
  const out: string[] = []
  for (const item of list) {
    if (typeof item !== 'string' && typeof item !== 'boolean' && typeof item !== 'number') return undefined
    out.push(String(item))
  }
  return out
}
