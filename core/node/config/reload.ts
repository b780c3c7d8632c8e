import { StorageError } from '../../contract/errors.ts'
import { markOf } from './marks.ts'
import type { NodeConfig } from './schema.ts'

export interface ReloadReport {
  /** Dotted keys that count from now on. */
  readonly applied: readonly string[]
  /** Dotted keys that were changed too, and count after a restart. */
  readonly afterRestart: readonly string[]
}

/** Whether a key can change while the node runs. Of `qos` classes may change their numbers, not come and go: the data plane knows their order. */
export const isHot = (path: string): boolean => markOf(path, 'x-pando-hot') === true

/** Keys that differ, ascending. Lists count as one key. */
export function changedKeys(before: unknown, after: unknown, path = ''): readonly string[] {
  if (!isMapping(before) || !isMapping(after)) {
    return JSON.stringify(before) === JSON.stringify(after) ? [] : [path]
  }
  const names = [...new Set([...Object.keys(before), ...Object.keys(after)])].sort()
  return names.flatMap((name) =>
    changedKeys(before[name], after[name], path === '' ? name : `${path}.${name}`),
  )
}

/**
 * Puts into force what may change while a node runs, all of it or nothing. INVALID_CONFIG when the new numbers do not fit together:
 * the old ones stay. `running` is what is in force now; what is in force afterwards comes back with the report.
 */
export function reload(
  running: NodeConfig,
  next: NodeConfig,
  reconfigureQos: (qos: NodeConfig['qos']) => void,
): { readonly config: NodeConfig; readonly report: ReloadReport } {
  if (next.node !== running.node || next.data !== running.data) {
    throw new StorageError(
      'INVALID_CONFIG',
      `the file is of another node now (${next.node} on ${next.data}): this one is ${running.node} on ${running.data}`,
    )
  }
  const changed = changedKeys(running, next)
  const applied = changed.filter(isHot)
  const { enabled, trackedNames, explainRequests } = running.qos
  const qos = { ...next.qos, enabled, trackedNames, explainRequests }
  if (applied.some((path) => path.startsWith('qos.'))) reconfigureQos(qos)
  const { rateLimit, rateLimits } = next.tunnel
  return {
    config: { ...running, qos, tunnel: { ...running.tunnel, rateLimit, rateLimits } },
    report: { applied, afterRestart: changed.filter((path) => !isHot(path)) },
  }
}

const isMapping = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Map)
