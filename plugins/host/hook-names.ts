import type { PolicyHook } from '../../core/contract/policy.ts'

export const policyHooks = [
  'select',
  'classify',
  'admit',
  'plan',
  'resolve',
] as const satisfies readonly PolicyHook[]

/** Name of the module's export. */
export const hookExport = (hook: PolicyHook) => `pando_${hook}`

/** Of the function that answers brief questions by value. */
export const briefExport = (hook: PolicyHook) => `pando_${hook}_brief`

/** One value for each hook. */
export function forEachHook<T>(make: (hook: PolicyHook) => T): Record<PolicyHook, T> {
  return {
    select: make('select'),
    classify: make('classify'),
    admit: make('admit'),
    plan: make('plan'),
    resolve: make('resolve'),
  }
}
