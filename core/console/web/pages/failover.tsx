import { useState } from 'preact/hooks'
import type { FailoverPlan, FailoverResult, GroupStatus, MemberStatus } from '../../../../sdk/admin/index.ts'
import { admin } from '../node.ts'
import { Badge, Card, Failure, Head, Said, Table } from '../parts/frame.tsx'
import { Icon } from '../parts/icons.tsx'
import { Check, type Close, Question, useQuestion } from '../parts/question.tsx'
import { usePoll } from '../poll.ts'
import { bytes, count, duration, moment, plural } from '../text.ts'

interface Asked {
  readonly group: GroupStatus
  readonly to: number
}

export function Failover() {
  const { value, error, refresh } = usePoll(async (signal) => admin.failover.report({ signal }))
  const { asked, ask, close, said } = useQuestion<Asked>(refresh)
  return (
    <>
      <Head
        title="Failover"
        about="Which region takes the writes of replicated buckets, and who may take over."
      />
      <div class="stack">
        <Failure text={error} />
        <Said text={said} />
        {value === undefined && error === undefined && <p class="muted">Loading…</p>}
        {value?.length === 0 && (
          <Card>
            <div class="empty">
              <Icon name="failover" size={34} />
              <p>
                No failover group. <code>pando failover set GROUP --bucket NAME</code> makes one of replicated
                buckets.
              </p>
            </div>
          </Card>
        )}
        {(value ?? []).map((group) => (
          <Group key={group.record.name} group={group} onAsk={(to) => ask({ group, to })} />
        ))}
      </div>
      {asked !== undefined && <Plan {...asked} onClose={close} />}
    </>
  )
}

function Group({ group, onAsk }: { readonly group: GroupStatus; readonly onAsk: (to: number) => void }) {
  const { record, reigns, voters, members, isWritable, leaseLeftMs, losses } = group
  return (
    <Card
      flush
      title={record.name}
      actions={
        <Badge tone={members.some(({ isPrimary, isConnected }) => isPrimary && isConnected) ? 'good' : 'bad'}>
          primary: region {record.primary}
        </Badge>
      }
    >
      <div class="inside">
        <dl class="facts">
          <dt>Buckets</dt>
          <dd>
            {record.buckets
              .map((name) => (record.syncBuckets.includes(name) ? `${name} (sync)` : name))
              .join(', ')}
          </dd>
          <dt>Epoch</dt>
          <dd>
            {record.epoch}, since {moment(reigns.at(-1)?.start.ms ?? 0)} ({reigns.at(-1)?.cause ?? 'made'})
          </dd>
          <dt>Takes over</dt>
          <dd>{record.automatic ? 'by itself when the primary is lost' : 'when an operator says so'}</dd>
          <dt>Voters</dt>
          <dd>
            {voters
              .map(
                ({ region, isWitness, isConnected }) =>
                  `${isWitness ? 'witness' : 'region'} ${region}${isConnected ? '' : ' (does not answer)'}`,
              )
              .join(', ')}
          </dd>
          <dt>Here</dt>
          <dd>
            {isWritable ? 'takes writes' : 'takes no writes'}
            {leaseLeftMs > 0 ? `; the lease holds for ${duration(leaseLeftMs)}` : ''}
            {losses > 0 ? `; ${plural(losses, 'change')} lost by failovers` : ''}
          </dd>
        </dl>
      </div>
      <Table<MemberStatus>
        label={`Regions of ${record.name}`}
        rows={members}
        id={({ region }) => String(region)}
        columns={[
          { title: 'Region', cell: ({ region }) => <span class="name">Region {region}</span> },
          {
            title: 'State',
            cell: ({ isPrimary, isConnected, blockers }) =>
              isPrimary ? (
                <Badge tone={isConnected ? 'good' : 'bad'}>
                  {isConnected ? 'primary' : 'primary, does not answer'}
                </Badge>
              ) : (
                <Badge tone={blockers.length === 0 ? 'accent' : 'warn'}>
                  {blockers.length === 0 ? 'can take over' : blockers.join('; ')}
                </Badge>
              ),
          },
          {
            title: 'Lacks',
            right: true,
            cell: ({ isPrimary, lagEntries }) => (isPrimary ? '–' : plural(lagEntries, 'change')),
          },
          {
            title: 'Bytes',
            right: true,
            cell: ({ isPrimary, lagBytes }) => (isPrimary ? '–' : bytes(lagBytes)),
          },
          {
            title: 'Behind',
            right: true,
            cell: ({ isPrimary, lagMs }) => (isPrimary ? '–' : duration(lagMs)),
          },
          {
            title: '',
            cell: ({ region, isPrimary }) =>
              isPrimary ? null : (
                <button
                  type="button"
                  aria-label={`Fail over… ${record.name} to region ${region}`}
                  onClick={() => onAsk(region)}
                >
                  Fail over…
                </button>
              ),
          },
        ]}
      />
    </Card>
  )
}

/** What the plan tells, and no more; of what is not known any number. */
const acceptableLoss = ({ lossEntries }: FailoverPlan): number =>
  lossEntries < 0 ? Number.MAX_SAFE_INTEGER : lossEntries

const lossText = ({ kind, lossEntries }: FailoverResult): string => {
  if (kind === 'planned') return 'nothing is lost'
  if (lossEntries === 0) return 'nothing is known to be lost'
  const missing = lossEntries < 0 ? 'an unknown number of' : count(lossEntries)
  return `${missing} entries are missing until the old primary returns and lists them`
}

/** The plan first; then the name of the group, typed: nobody fails over by a slip of the hand. */
function Plan({ group, to, onClose }: Asked & { readonly onClose: Close }) {
  const { name } = group.record
  const [typed, setTyped] = useState('')
  const [acceptLoss, setAcceptLoss] = useState(false)
  const [isPrimaryDown, setIsPrimaryDown] = useState(false)
  const plan = usePoll(async (signal) => admin.failover.plan(name, to, { signal }), 3000, `${name}/${to}`)
  const forced = plan.value?.kind === 'forced'
  const twoVoters = group.voters.length === 2
  return (
    <Question
      title={`Fail ${name} over to region ${to}`}
      action="Fail over"
      busyAction="Failing over…"
      risky
      ready={typed === name && plan.value?.blockers.length === 0}
      work={async () => {
        const result = await admin.failover.run({
          group: name,
          to,
          acceptLoss: forced && acceptLoss && plan.value !== undefined ? acceptableLoss(plan.value) : -1,
          isPrimaryDown: forced && isPrimaryDown,
        })
        return `Region ${result.primary} is the primary of ${name} (epoch ${result.epoch}), ${duration(result.durationMs)} after the last write that the old one took; ${lossText(result)}.`
      }}
      onClose={onClose}
    >
      <Failure text={plan.error} />
      {plan.value === undefined ? <p aria-live="polite">Making the plan…</p> : <PlanText plan={plan.value} />}
      {forced && (
        <Check checked={acceptLoss} onChange={setAcceptLoss}>
          I accept that what is told above may be lost
        </Check>
      )}
      {forced && twoVoters && (
        <Check checked={isPrimaryDown} onChange={setIsPrimaryDown}>
          I have made sure that region {group.record.primary} is down
        </Check>
      )}
      <label>
        <span>
          Type <code>{name}</code> to confirm
        </span>
        <input
          spellcheck={false}
          autocomplete="off"
          aria-label="Name of the group"
          value={typed}
          onInput={(event) => setTyped(event.currentTarget.value)}
        />
      </label>
    </Question>
  )
}

function PlanText({ plan }: { readonly plan: FailoverPlan }) {
  const { from, to, kind, blockers, lossEntries, lossBytes, lossMs } = plan
  return (
    <>
      <dl class="facts">
        <dt>Change</dt>
        <dd>
          region {from} to region {to}, {kind === 'planned' ? 'planned' : 'without the primary'}
        </dd>
        <dt>Lost</dt>
        <dd>
          {kind === 'planned'
            ? `nothing: region ${from} answers and hands over when region ${to} has everything`
            : lossEntries < 0
              ? 'not known: nothing was heard of the primary since this node started'
              : `${count(lossEntries)} changes${lossBytes < 0 ? '' : `, ${bytes(lossBytes)}`}; the primary was heard of ${duration(lossMs)} ago, and what it wrote since is not known`}
        </dd>
        <dt>Ready</dt>
        <dd>{blockers.length === 0 ? 'yes' : 'no'}</dd>
      </dl>
      {blockers.map((blocker) => (
        <p class="notice bad" key={blocker}>
          {blocker}
        </p>
      ))}
    </>
  )
}
