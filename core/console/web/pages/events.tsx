import type { NodeEvent } from '../../../../sdk/admin/index.ts'
import { admin } from '../node.ts'
import { Badge, Head, TableCard, type Tone } from '../parts/frame.tsx'
import { usePoll } from '../poll.ts'
import { moment } from '../text.ts'

interface Row {
  readonly id: string
  readonly atMs: number
  readonly kind: string
  readonly tone: Tone
  readonly text: string
  readonly by: string
}

const kinds: Readonly<Record<NodeEvent['kind'], readonly [string, Tone]>> = {
  problem: ['problem', 'bad'],
  cleared: ['cleared', 'good'],
  login: ['log-in', 'plain'],
  change: ['change', 'accent'],
}

/** What the node noted, and what its parts remember: one list by time. */
export function Events() {
  const { value, error } = usePoll(async (signal) => {
    const [events, links, groups, policies] = await Promise.all([
      admin.events(0, { signal }),
      admin.links({ signal }).catch(() => undefined),
      admin.failover.report({ signal }).catch(() => []),
      admin.policies.list({ signal }).catch(() => undefined),
    ])
    const rows: Row[] = events.map(({ number, atMs, kind, text, by }) => {
      const [title, tone] = kinds[kind]
      return { id: `e${number}`, atMs, kind: title, tone, text, by }
    })
    for (const { peer, switches } of links?.links ?? []) {
      for (const { atMs, from, to, why } of switches) {
        const text = `The link to ${peer} goes over ${to}${from === '' ? '' : ` instead of ${from}`}: ${why}`
        rows.push({ id: `l${peer}${atMs}`, atMs, kind: 'link', tone: 'plain', text, by: '' })
      }
    }
    for (const { record, reigns } of groups) {
      for (const { epoch, primary, start, cause } of reigns) {
        const text = `Region ${primary} became the primary of ${record.name} (epoch ${epoch}, ${cause})`
        rows.push({
          id: `f${record.name}${epoch}`,
          atMs: start.ms,
          kind: 'failover',
          tone: 'warn',
          text,
          by: '',
        })
      }
    }
    for (const { name, versions, history } of policies?.deployment?.policies ?? []) {
      for (const { digest, percent, sinceMs } of [...versions, ...history]) {
        if (sinceMs <= 0) continue
        const text = `Policy ${name} ${digest.slice(0, 12)} was deployed for ${percent} % of requests`
        rows.push({ id: `p${digest}${sinceMs}`, atMs: sinceMs, kind: 'policy', tone: 'accent', text, by: '' })
      }
    }
    return rows.toSorted((left, right) => right.atMs - left.atMs).slice(0, 300)
  }, 3000)
  return (
    <>
      <Head
        title="Events"
        about="What happened at this node lately, the newest first. A restart empties the list."
      />
      <div class="stack">
        <TableCard
          error={error}
          label="Events"
          rows={value}
          id={({ id }) => id}
          empty="Nothing has happened yet."
          columns={[
            { title: 'When', cell: ({ atMs }) => <span class="nowrap">{moment(atMs)}</span> },
            { title: 'Kind', cell: ({ kind, tone }) => <Badge tone={tone}>{kind}</Badge> },
            { title: 'What', cell: ({ text }) => text },
            { title: 'By', cell: ({ by }) => (by === '' ? '–' : <code>{by}</code>) },
          ]}
        />
      </div>
    </>
  )
}
