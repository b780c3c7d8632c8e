import type {
  AdmitDecision,
  ClassifyDecision,
  PlanDecision,
  PlannedClass,
  PolicyFallbacks,
} from '../contract/policy.ts'

/**
 * What stands when no policy decides. Classify: the default class. Admit: everything, as far as budgets, queues and
 * the limit of concurrency let it (they hold for every policy); a class that misses its target by far while a long queue
 * waits sheds. Plan: the numbers of the configuration.
 */
export function createFallbackDecisions(
  defaultClass: () => number,
): Pick<PolicyFallbacks, 'classify' | 'admit' | 'plan'> {
  // Decisions are valid until the next call, so one object serves all.
  const classified: Mutable<ClassifyDecision> = { ...origin, classIndex: 0, priority: middlePriority }
  return {
    classify() {
      classified.classIndex = defaultClass()
      return classified
    },
    admit(input) {
      const { sloMs, p99Ms, queueDepth, concurrencyLimit } = input
      if (sloMs > 0 && p99Ms > sloMs * 2 && queueDepth > concurrencyLimit) return overloaded
      return admitted
    },
    plan(input): PlanDecision {
      return {
        ...origin,
        classes: input.classes.map(({ weight, reservation, limit }): PlannedClass => {
          return { weight, reservation, limit, burst: 0 }
        }),
      }
    },
  }
}

type Mutable<T> = { -readonly [Field in keyof T]: T[Field] }

export const middlePriority = 128
const origin = { policy: 'fallback', reason: 0 }
const admitted: AdmitDecision = { ...origin, verdict: 'admit', delayMs: 0 }
/** Reason 1: the latency target is missed. */
const overloaded: AdmitDecision = { ...origin, reason: 1, verdict: 'shed', delayMs: 1000 }
