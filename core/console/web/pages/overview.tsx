import type { PageProps } from '../app.tsx'
import { admin } from '../node.ts'
import { Badge, Bar, Card, Failure, Head, Spark, Table, type Tone } from '../parts/frame.tsx'
import { Icon } from '../parts/icons.tsx'
import { usePoll } from '../poll.ts'
import { quantile, useRates } from '../rates.ts'
import { doingOf, rpoOf, safetyOf } from '../safety.ts'
import { ago, bytes, compact, duration, percent, plural } from '../text.ts'

const requests = 'pando_s3_requests_total'
const latency = 'pando_s3_request_duration_seconds'

export function Overview({ session }: PageProps) {
  const { value, error } = usePoll(async (signal) => {
    const [status, cluster, replication, groups] = await Promise.all([
      admin.status({ signal }),
      admin.cluster.report({ signal }),
      admin.replication.report({ signal }).catch(() => undefined),
      admin.failover.report({ signal }).catch(() => undefined),
    ])
    return { status, cluster, replication, groups }
  })
  const rates = useRates((look) => [
    look.rate(requests),
    look.rate('pando_s3_received_bytes_total') + look.rate('pando_s3_sent_bytes_total'),
  ])
  if (value === undefined) {
    return (
      <>
        <Head title="Overview" />
        <Failure text={error} />
        <div class="hero wait">
          <p>Asking {session.node}…</p>
        </div>
      </>
    )
  }
  const { status, cluster, replication, groups } = value
  const safety = safetyOf(status, cluster, replication)
  const rpo = rpoOf(replication)
  const doing = doingOf(status, cluster, replication, groups)
  const used = status.store.capacityBytes - status.store.freeBytes
  const share = status.store.capacityBytes === 0 ? 0 : used / status.store.capacityBytes
  const history = rates.value?.history ?? []
  const p99 = rates.value === undefined ? undefined : quantile(rates.value.metrics, latency, 0.99)
  return (
    <>
      <Head
        title="Overview"
        about={`${status.node} in ${status.region}, up for ${ago(status.startedMs).replace(' ago', '')}`}
      >
        <Badge tone={stateTone(status.state)}>{status.state}</Badge>
      </Head>
      <div class="stack">
        <Failure text={error === undefined ? undefined : `The node does not answer: ${error}`} />
        <section class={`hero ${safety.tone}`} aria-label="Is my data safe?">
          <span class="mark">
            <Icon name={safety.tone === 'good' ? 'check' : 'alert'} size={26} />
          </span>
          <div>
            <h2>{safety.title}</h2>
            {safety.reasons.length === 1 ? (
              <p>{safety.reasons[0]}</p>
            ) : (
              <ul>
                {safety.reasons.map((reason) => (
                  <li key={reason}>{reason}</li>
                ))}
              </ul>
            )}
          </div>
        </section>
        <dl class="tiles">
          <Tile
            title="Objects"
            value={compact(status.catalog.objects)}
            note={`in ${plural(status.catalog.buckets, 'bucket')}`}
          />
          <Tile
            title="Stored"
            value={bytes(status.catalog.liveBytes)}
            note={plural(status.catalog.versions, 'version')}
          />
          <Tile title="Recovery point (RPO)" value={rpo.value} note={rpo.note} />
          <Tile
            title="Requests"
            value={`${compact(rates.value?.rate(requests) ?? 0)}/s`}
            note={
              p99 === undefined
                ? 'no request yet'
                : `99 of 100 within ${Number.isFinite(p99) ? duration(p99 * 1000) : 'more than the scale'}`
            }
            values={history.map(([first = 0]) => first)}
          />
          <Tile
            title="Throughput"
            value={`${bytes(history.at(-1)?.[1] ?? 0)}/s`}
            note={`${plural(status.requestsInFlight, 'request')} at work`}
            values={history.map(([, second = 0]) => second)}
          />
        </dl>
        <div class="columns">
          <Card title="Space on this node">
            <Bar share={share} tone={share > 0.85 ? 'warn' : 'accent'} label="Space in use" />
            <p class="muted number">
              {bytes(used)} of {bytes(status.store.capacityBytes)} in use ({percent(share)}),{' '}
              {bytes(status.store.freeBytes)} free
            </p>
          </Card>
          <Card title="What is being done">
            {doing.length === 0 ? (
              <p class="muted">Nothing: everything is where it should be.</p>
            ) : (
              <ul>
                {doing.map((each) => (
                  <li key={each}>{each}</li>
                ))}
              </ul>
            )}
          </Card>
        </div>
        {cluster.enabled && <Nodes cluster={cluster} />}
        <Card title="This node">
          <dl class="facts">
            <dt>S3 endpoint</dt>
            <dd class="mono">{status.s3Endpoint}</dd>
            <dt>Admin service</dt>
            <dd class="mono">{status.adminEndpoint}</dd>
            <dt>Data directory</dt>
            <dd class="mono">{status.dataDirectory}</dd>
            <dt>Chunk store</dt>
            <dd>
              {status.storeKind}, {status.storeBackend}
            </dd>
            <dt>Version</dt>
            <dd>{status.version}</dd>
          </dl>
        </Card>
      </div>
    </>
  )
}

const stateTone = (state: string): Tone =>
  state === 'ready' ? 'good' : state === 'degraded' ? 'warn' : 'plain'

function Tile({
  title,
  value,
  note,
  values,
}: {
  readonly title: string
  readonly value: string
  readonly note: string
  readonly values?: readonly number[]
}) {
  return (
    <div class="tile">
      <dt>{title}</dt>
      <dd>{value}</dd>
      <dd class="note">{note}</dd>
      {values !== undefined && (
        <dd aria-hidden="true">
          <Spark values={values} />
        </dd>
      )}
    </div>
  )
}

function Nodes({ cluster }: { readonly cluster: Awaited<ReturnType<typeof admin.cluster.report>> }) {
  return (
    <Card title="Nodes of the region" flush>
      <Table
        label="Nodes of the region"
        rows={cluster.nodes}
        id={({ name }) => name}
        columns={[
          { title: 'Node', cell: ({ name }) => <span class="name">{name}</span> },
          {
            title: 'Health',
            cell: ({ health, silentForMs }) => (
              <Badge tone={health === 'alive' ? 'good' : 'bad'}>
                {health === 'alive' ? 'alive' : `silent for ${duration(silentForMs)}`}
              </Badge>
            ),
          },
          { title: 'State', cell: ({ state }) => state },
          {
            title: 'Role',
            cell: ({ voter, coordinator }) =>
              [voter ? 'voter' : '', coordinator ? 'coordinator' : ''].filter(Boolean).join(', ') || '–',
          },
          { title: 'Zone', cell: ({ zone, rack }) => [zone, rack].filter(Boolean).join(' / ') || '–' },
          { title: 'Transport', cell: ({ transport }) => transport || '–' },
          { title: 'Chunks', cell: ({ complete }) => (complete ? 'complete' : 'being copied') },
        ]}
      />
    </Card>
  )
}
