import type { GroupState } from '../../core/contract/failover.ts'
import type { FailoverAgentOptions } from './agent.ts'

/** Accounts, step by step, for what this region had written and not handed over when another one took over. */
export async function listLosses(
  { catalog, log }: Pick<FailoverAgentOptions, 'catalog' | 'log'>,
  { record, diverged }: GroupState,
  signal: AbortSignal,
): Promise<void> {
  for (const { bucketId, bucket } of diverged) {
    for (;;) {
      signal.throwIfAborted()
      const { done } = await catalog.submit({ type: 'list-losses', name: record.name, bucketId })
      if (done) break
    }
    const lost = catalog.failover.losses(bucketId, 1).length
    if (lost > 0) {
      log.error(
        { group: record.name, bucket },
        "another region took over before it had all of this region's writes: see 'pando failover losses'",
      )
    }
  }
}
