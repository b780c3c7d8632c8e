import type { CursorState, ReplicationRule } from './replication.ts'

/** All members write, and follow one another. */
export const isMesh = ({ mode, edge }: ReplicationRule): boolean => mode === 'multi' && edge === undefined

/**
 * Whether the place that a member says to have in the outbox of region `here` is one that it keeps. Who has not heard yet that this region
 * had left the rule and is back forgets it when it hears; it has, when something came that it wrote since (`cursor`: in its log).
 */
export const mayBegin = (
  rule: ReplicationRule,
  here: number,
  cursor: Pick<CursorState, 'receivedTime'> | undefined,
): boolean =>
  isMesh(rule) &&
  (rule.former?.some(({ region }) => region === here) !== true || (cursor?.receivedTime.ms ?? 0) > 0)
