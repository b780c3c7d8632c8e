import type { LinkState } from '../contract/link.ts'

/** What may follow what. Anything else is a mistake of ours. */
const next: Readonly<Record<LinkState, readonly LinkState[]>> = {
  detecting: ['connecting', 'failed', 'closed'],
  connecting: ['active', 'failed', 'closed'],
  active: ['degraded', 'switching', 'closed'],
  degraded: ['active', 'switching', 'closed'],
  switching: ['active', 'failed', 'closed'],
  failed: ['detecting', 'closed'],
  closed: [],
}

export const mayFollow = (from: LinkState, to: LinkState): boolean => next[from].includes(to)
