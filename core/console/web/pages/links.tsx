import type { LinkReport, NodeLinksReport } from '../../../../sdk/admin/index.ts'
import { admin } from '../node.ts'
import { Badge, Card, Failure, Head, Table, type Tone } from '../parts/frame.tsx'
import { Icon } from '../parts/icons.tsx'
import { usePoll } from '../poll.ts'
import { bytes, count, duration, moment, percent, plural } from '../text.ts'

const tones: Readonly<Record<string, Tone>> = {
  active: 'good',
  up: 'good',
  degraded: 'warn',
  switching: 'accent',
  failed: 'bad',
  down: 'bad',
}
const toneOf = (state: string): Tone => tones[state] ?? 'plain'
const distances = ['same host', 'same rack', 'same zone', 'same region', 'another region']

export function Links() {
  const { value, error } = usePoll(async (signal) => admin.links({ signal }))
  return (
    <>
      <Head title="Links" about="How this node reaches the others, by which transport, and why that one." />
      <div class="stack">
        <Failure text={error} />
        {value?.links.map((link) => (
          <Link key={link.peer} link={link} />
        ))}
        {value?.links.length === 0 && (
          <Card>
            <div class="empty">
              <Icon name="links" size={34} />
              <p>
                {value.enabled
                  ? 'No other node is connected.'
                  : 'This node has no others to talk to: its region is one node.'}
              </p>
            </div>
          </Card>
        )}
        {value !== undefined && <Transports report={value} />}
      </div>
    </>
  )
}

function Link({ link }: { readonly link: LinkReport }) {
  const switches = link.switches.toReversed().slice(0, 8)
  return (
    <Card
      flush
      title={link.peer}
      actions={
        <>
          <Badge tone={toneOf(link.state)}>
            {link.state} for {duration(link.stateForMs)}
          </Badge>
          {link.active !== '' && <Badge tone="accent">{link.active}</Badge>}
        </>
      }
    >
      <p class="inside muted">
        {link.why === '' ? '' : `${link.why}. `}
        {plural(link.requests, 'request')}, {count(link.inFlight)} under way, {count(link.resent)} sent again,{' '}
        {count(link.failed)} failed
      </p>
      <Table
        label={`Transports to ${link.peer}`}
        rows={link.candidates}
        id={({ id, address }) => `${id} ${address}`}
        columns={[
          { title: 'Transport', cell: ({ id }) => <span class="name">{id}</span> },
          {
            title: 'State',
            cell: ({ state, problem }) => (
              <span title={problem}>
                <Badge tone={toneOf(state)}>{state}</Badge>
              </span>
            ),
          },
          { title: 'Distance', cell: ({ distance }) => distances[distance] ?? '–' },
          { title: 'Round trip', right: true, cell: ({ rttP50Ms }) => duration(rttP50Ms) },
          { title: '99 of 100 within', right: true, cell: ({ rttP99Ms }) => duration(rttP99Ms) },
          { title: 'Loss', right: true, cell: ({ loss }) => percent(loss) },
          { title: 'Rate', right: true, cell: ({ bytesPerSecond }) => `${bytes(bytesPerSecond)}/s` },
          { title: 'Cipher', cell: ({ encryption }) => encryption || '–' },
        ]}
      />
      {switches.length > 0 && (
        <details class="history">
          <summary>{plural(link.switchCount, 'switch', 'switches')}</summary>
          <ul>
            {switches.map(({ atMs, from, to, why, pauseMs }) => (
              <li key={`${atMs}${to}`}>
                {moment(atMs)}: {from === '' ? '' : `${from} to `}
                {to}, {why} (paused {duration(pauseMs)})
              </li>
            ))}
          </ul>
        </details>
      )}
    </Card>
  )
}

function Transports({ report }: { readonly report: NodeLinksReport }) {
  return (
    <Card title="What this machine can do" flush>
      <Table
        label="What this machine can do"
        rows={report.transports}
        id={({ id }) => id}
        columns={[
          { title: 'Transport', cell: ({ id }) => <span class="name">{id}</span> },
          {
            title: 'Here',
            cell: ({ available }) => (
              <Badge tone={available ? 'good' : 'plain'}>{available ? 'available' : 'not here'}</Badge>
            ),
          },
          { title: 'Found', cell: ({ found }) => found || '–' },
          { title: 'Advice', cell: ({ advice }) => advice || '–' },
        ]}
      />
    </Card>
  )
}
