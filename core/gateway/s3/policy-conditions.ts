import { BlockList, isIP } from 'node:net'
import { compilePattern, lowerCasePattern, matchPattern, type Variables } from './policy-pattern.ts'

/** The values of a request that conditions are evaluated on: lower-case key names, every key with all its values. */
export interface ConditionContext {
  /** Undefined: the request has no such key. */
  values(key: string): readonly string[] | undefined
  /** Whether the value is known only later: nothing is refused by it before. Absent: all are known. */
  isOpen?(key: string): boolean
}

/** One `operator: { key: values }` triple of a statement; all of a statement's conditions must hold. */
export interface Condition {
  readonly key: string
  /** It holds only for requests that carry one of a few fixed values of the key: what "public" is judged by. */
  readonly pinsValues: boolean
  holds(context: ConditionContext, variables: Variables): boolean
}

/** Whether one value of the request equals one value of the policy. Undefined: the policy's value is malformed. */
type Comparison = (expected: string, options: { variables: boolean }) => Test | undefined
type Test = (actual: string, variables: Variables) => boolean

interface Operator {
  readonly negated: boolean
  readonly compile: Comparison
}

const string: Comparison = (expected, options) => {
  const pattern = compilePattern(expected, { wildcards: false, variables: options.variables })
  return (actual, variables) => matchPattern(pattern, actual, variables)
}

const ignoreCase: Comparison = (expected, options) => {
  const pattern = lowerCasePattern(
    compilePattern(expected, { wildcards: false, variables: options.variables }),
  )
  return (actual, variables) =>
    matchPattern(pattern, actual.toLowerCase(), (name) => variables(name)?.toLowerCase())
}

const like: Comparison = (expected, options) => {
  const pattern = compilePattern(expected, { wildcards: true, variables: options.variables })
  return (actual, variables) => matchPattern(pattern, actual, variables)
}

const numeric =
  (compare: (actual: number, expected: number) => boolean): Comparison =>
  (text) => {
    const expected = parseNumber(text)
    if (expected === undefined) return undefined
    return (value) => {
      const actual = parseNumber(value)
      return actual !== undefined && compare(actual, expected)
    }
  }

function parseNumber(text: string): number | undefined {
  if (!/^[+-]?\d{1,20}(\.\d{1,20})?$/.test(text)) return undefined
  return Number(text)
}

const date =
  (compare: (actual: number, expected: number) => boolean): Comparison =>
  (text) => {
    const expected = parseDate(text)
    if (expected === undefined) return undefined
    return (value) => {
      const actual = parseDate(value)
      return actual !== undefined && compare(actual, expected)
    }
  }

/** ISO 8601 or seconds since the epoch; milliseconds. */
function parseDate(text: string): number | undefined {
  if (/^\d{1,12}$/.test(text) && text.length !== 4) return Number(text) * 1000
  if (!/^\d{4}(-\d{2}(-\d{2}(T[\d:.]{5,16}(Z|[+-]\d{2}:\d{2})?)?)?)?$/.test(text)) return undefined
  const milliseconds = Date.parse(text)
  return Number.isNaN(milliseconds) ? undefined : milliseconds
}

const bool: Comparison = (text) => {
  const expected = text.toLowerCase()
  if (expected !== 'true' && expected !== 'false') return undefined
  return (actual) => actual.toLowerCase() === expected
}

const address: Comparison = (text) => {
  const slash = text.indexOf('/')
  const ip = slash < 0 ? text : text.slice(0, slash)
  const version = isIP(ip)
  if (version === 0) return undefined
  const family = version === 4 ? 'ipv4' : 'ipv6'
  const widest = version === 4 ? 32 : 128
  const prefixText = slash < 0 ? String(widest) : text.slice(slash + 1)
  if (!/^\d{1,3}$/.test(prefixText) || Number(prefixText) > widest) return undefined
  const list = new BlockList()
  list.addSubnet(ip, Number(prefixText), family)
  return (value) => {
    const actual = value.replace(/^::ffff:(?=\d+\.)/i, '')
    const actualVersion = isIP(actual)
    return actualVersion !== 0 && list.check(actual, actualVersion === 4 ? 'ipv4' : 'ipv6')
  }
}

const yes = (compile: Comparison): Operator => ({ negated: false, compile })
const no = (compile: Comparison): Operator => ({ negated: true, compile })

/** https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html */
const operators: ReadonlyMap<string, Operator> = new Map([
  ['stringequals', yes(string)],
  ['stringnotequals', no(string)],
  ['stringequalsignorecase', yes(ignoreCase)],
  ['stringnotequalsignorecase', no(ignoreCase)],
  ['stringlike', yes(like)],
  ['stringnotlike', no(like)],
  ['arnequals', yes(like)],
  ['arnnotequals', no(like)],
  ['arnlike', yes(like)],
  ['arnnotlike', no(like)],
  ['binaryequals', yes(string)],
  ['bool', yes(bool)],
  ['ipaddress', yes(address)],
  ['notipaddress', no(address)],
  ['numericequals', yes(numeric((actual, expected) => actual === expected))],
  ['numericnotequals', no(numeric((actual, expected) => actual === expected))],
  ['numericlessthan', yes(numeric((actual, expected) => actual < expected))],
  ['numericlessthanequals', yes(numeric((actual, expected) => actual <= expected))],
  ['numericgreaterthan', yes(numeric((actual, expected) => actual > expected))],
  ['numericgreaterthanequals', yes(numeric((actual, expected) => actual >= expected))],
  ['dateequals', yes(date((actual, expected) => actual === expected))],
  ['datenotequals', no(date((actual, expected) => actual === expected))],
  ['datelessthan', yes(date((actual, expected) => actual < expected))],
  ['datelessthanequals', yes(date((actual, expected) => actual <= expected))],
  ['dategreaterthan', yes(date((actual, expected) => actual > expected))],
  ['dategreaterthanequals', yes(date((actual, expected) => actual >= expected))],
])

/** Reasons are sentences for MALFORMED_POLICY. */
export type Compiled<T> =
  | { readonly ok: true; readonly value: T }
  | { readonly ok: false; readonly reason: string }

export function compileCondition(
  operatorName: string,
  key: string,
  expected: readonly string[],
  options: { variables: boolean },
): Compiled<Condition> {
  let name = operatorName.toLowerCase()
  let quantifier: 'all' | 'any' | undefined
  if (name.startsWith('forallvalues:')) {
    quantifier = 'all'
    name = name.slice('forallvalues:'.length)
  } else if (name.startsWith('foranyvalue:')) {
    quantifier = 'any'
    name = name.slice('foranyvalue:'.length)
  }
  const lowerKey = conditionKey(key)
  if (name === 'null') return compileNull(operatorName, lowerKey, expected)
  const ifExists = name.endsWith('ifexists')
  if (ifExists) name = name.slice(0, -'ifexists'.length)
  const operator = operators.get(name)
  if (operator === undefined) {
    return { ok: false, reason: `Unrecognized condition operator: ${operatorName.slice(0, 64)}` }
  }
  const tests: Test[] = []
  for (const value of expected) {
    const test = operator.compile(value, options)
    if (test === undefined) {
      return { ok: false, reason: `Invalid value for the condition operator ${operatorName.slice(0, 64)}` }
    }
    tests.push(test)
  }
  return {
    ok: true,
    value: {
      key: lowerKey,
      pinsValues:
        !operator.negated &&
        !ifExists &&
        quantifier !== 'all' &&
        /^(string|arn|ipaddress)/.test(name) &&
        expected.every(name === 'ipaddress' ? isNarrowRange : isFixed),
      holds(context, variables) {
        const actual = context.values(lowerKey)
        if (actual === undefined)
          return ifExists || quantifier === 'all' || (quantifier === undefined && operator.negated)
        // A negated operator holds for a value when it differs from every value listed.
        const one = (value: string) => tests.some((test) => test(value, variables)) !== operator.negated
        if (quantifier === 'all') return actual.every(one)
        if (quantifier === 'any') return actual.some(one)
        // A key with several values and no quantifier: every value must satisfy a negated operator, any one a plain one.
        return operator.negated ? actual.every(one) : actual.some(one)
      },
    },
  }
}

const isFixed = (value: string) => !/[*?]|\$\{/.test(value)

/** Broader ranges than these count as "the internet" (S3's own limits: /8 and /32). */
function isNarrowRange(value: string): boolean {
  const [ip = '', prefix] = value.split('/')
  return prefix === undefined || Number(prefix) >= (isIP(ip) === 4 ? 8 : 32)
}

function compileNull(operatorName: string, key: string, expected: readonly string[]): Compiled<Condition> {
  const wanted = new Set(expected.map((value) => value.toLowerCase()))
  if ([...wanted].some((value) => value !== 'true' && value !== 'false')) {
    return { ok: false, reason: `Invalid value for the condition operator ${operatorName.slice(0, 64)}` }
  }
  return {
    ok: true,
    value: {
      key,
      pinsValues: false,
      holds: (context) => wanted.has(context.values(key) === undefined ? 'true' : 'false'),
    },
  }
}

/** Key names ignore case, but what follows `s3:ExistingObjectTag/` is a tag's own key and does not. */
export function conditionKey(key: string): string {
  const slash = key.indexOf('/')
  return slash < 0 ? key.toLowerCase() : key.slice(0, slash).toLowerCase() + key.slice(slash)
}
