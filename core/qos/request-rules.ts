import type { AdmissionRequest } from '../contract/admission.ts'
import type { QosConfig, QosRule } from '../contract/qos.ts'
import { classNames } from './class-table.ts'
import { nameMatcher } from './name-pattern.ts'

export interface RuleMatch {
  readonly classIndex: number
  readonly priority: number
}

/** The classes that the operator's rules give; undefined: no rule says anything. First match wins. */
export type RuleBook = (request: AdmissionRequest) => RuleMatch | undefined

export function compileRules(config: QosConfig): RuleBook {
  const names = classNames(config)
  const rules = config.rules.map((rule) => ({
    match: { classIndex: names.indexOf(rule.class), priority: rule.priority },
    holds: compileRule(rule),
  }))
  if (rules.length === 0) return () => undefined
  return (request) => {
    for (const { match, holds } of rules) if (holds(request)) return match
    return undefined
  }
}

function compileRule(rule: QosRule): (request: AdmissionRequest) => boolean {
  const tests: ((request: AdmissionRequest) => boolean)[] = []
  const named = (
    pattern: string | undefined,
    read: (request: AdmissionRequest) => string | undefined,
  ): void => {
    if (pattern === undefined) return
    const matches = nameMatcher(pattern)
    tests.push((request) => {
      const name = read(request)
      return name !== undefined && matches(name)
    })
  }
  const { operations, minBytes, maxBytes } = rule
  if (operations !== undefined) tests.push(({ operation }) => operations.includes(operation))
  named(rule.tenant, ({ tenant }) => tenant)
  named(rule.accessKey, ({ accessKeyId }) => accessKeyId)
  named(rule.bucket, ({ bucket }) => bucket)
  named(rule.key, ({ key }) => key)
  // A body of unknown size is neither small nor large.
  if (minBytes !== undefined) tests.push(({ byteLength }) => byteLength >= minBytes)
  if (maxBytes !== undefined) tests.push(({ byteLength }) => byteLength >= 0 && byteLength <= maxBytes)
  return (request) => tests.every((test) => test(request))
}
