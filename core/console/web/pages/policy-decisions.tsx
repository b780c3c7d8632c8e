import { useState } from 'preact/hooks'
import { admin } from '../node.ts'
import { Badge, Card, Failure, Table } from '../parts/frame.tsx'
import { usePoll } from '../poll.ts'
import { ago, duration } from '../text.ts'

/** The last requests and why each was treated as it was. */
export function Decisions() {
  const [paused, setPaused] = useState(false)
  const { value, error } = usePoll(
    async (signal) => admin.policies.requests(25, { signal }),
    paused ? 86_400_000 : 2000,
    String(paused),
  )
  return (
    <Card
      flush
      title="Decisions of the last requests"
      actions={
        <button type="button" aria-pressed={paused} onClick={() => setPaused(!paused)}>
          {paused ? 'Go on' : 'Hold'}
        </button>
      }
    >
      <Failure text={error} />
      <Table
        label="Decisions of the last requests"
        rows={value}
        id={({ requestId }) => requestId}
        empty="No request yet."
        columns={[
          { title: 'When', cell: ({ atMs }) => ago(atMs) },
          { title: 'Operation', cell: ({ operation }) => operation },
          { title: 'Bucket', cell: ({ bucket }) => <span class="name">{bucket || '–'}</span> },
          { title: 'Tenant', cell: ({ tenant }) => tenant },
          { title: 'Class', cell: ({ class: name }) => <Badge tone="accent">{name}</Badge> },
          {
            title: 'Because',
            cell: ({ classifiedBy, classifyReasonText, classifyReason }) =>
              `${classifiedBy}: ${classifyReasonText === '' ? `reason ${classifyReason}` : classifyReasonText}`,
          },
          { title: 'Waited', right: true, cell: ({ queuedMs }) => duration(queuedMs) },
          {
            title: 'Outcome',
            cell: ({ outcome, reason }) => (
              <span title={reason}>
                <Badge tone={outcome === 'admitted' || outcome === 'served' ? 'good' : 'plain'}>
                  {outcome}
                </Badge>
              </span>
            ),
          },
        ]}
      />
    </Card>
  )
}
