import { Bar, Card, Failure, Head, Spark, Table } from '../parts/frame.tsx'
import { type Rates, useRates } from '../rates.ts'
import { compact, count, duration } from '../text.ts'

interface ClassRow {
  readonly name: string
  readonly admitted: number
  readonly delayed: number
  readonly shed: number
  readonly inFlight: number
  readonly waiting: number
  readonly weight: number
  readonly reservation: number
  readonly limit: number
  readonly meanWaitMs: number
  readonly history: readonly number[]
}

const classesOf = (rates: Pick<Rates, 'metrics'>): readonly string[] =>
  rates.metrics
    .all('pando_qos_admitted_total')
    .map(({ labels }) => labels['class'] ?? '')
    .toSorted()

function rowOf(name: string, index: number, { metrics, rate, history }: Rates): ClassRow {
  const labels = { class: name }
  const waits = rate('pando_qos_queue_seconds_count', labels)
  return {
    name,
    admitted: rate('pando_qos_admitted_total', labels),
    delayed: rate('pando_qos_delayed_total', labels),
    shed: rate('pando_qos_shed_total', labels),
    inFlight: metrics.sum('pando_qos_in_flight', labels),
    waiting: metrics.sum('pando_qos_queue_depth', labels),
    weight: metrics.sum('pando_qos_weight', labels),
    reservation: metrics.sum('pando_qos_reservation', labels),
    limit: metrics.sum('pando_qos_limit', labels),
    meanWaitMs: waits === 0 ? 0 : (rate('pando_qos_queue_seconds_sum', labels) / waits) * 1000,
    history: history.map((values) => values[index] ?? 0),
  }
}

export function Classes() {
  const { value, error } = useRates(
    (look) => classesOf(look).map((name) => look.rate('pando_qos_admitted_total', { class: name })),
    2000,
  )
  const names = value === undefined ? [] : classesOf(value)
  const rows = value === undefined ? undefined : names.map((name, index) => rowOf(name, index, value))
  const used = value?.metrics.sum('pando_qos_slots') ?? 0
  const limit = value?.metrics.sum('pando_qos_concurrency_limit') ?? 0
  const weights = Math.max(1, ...(rows ?? []).map(({ weight }) => weight))
  return (
    <>
      <Head
        title="Classes of service"
        about="Who is served when: what each class gets now, and what waits."
      />
      <div class="stack">
        <Failure text={error} />
        <Card title="Requests at work">
          <Bar share={limit === 0 ? 0 : used / limit} label="Slots of the limit of concurrency in use" />
          <p class="muted number">
            {count(used)} of {count(limit)} slots; the limit follows what the machine can do
          </p>
        </Card>
        <Card flush>
          <Table
            label="Classes of service"
            rows={rows}
            id={({ name }) => name}
            empty="Quality of service is off (qos.enabled)."
            columns={[
              { title: 'Class', cell: ({ name }) => <span class="name">{name}</span> },
              { title: 'Served', right: true, cell: ({ admitted }) => `${compact(admitted)}/s` },
              { title: 'Last 2 minutes', cell: ({ history }) => <Spark values={history} /> },
              { title: 'Held back', right: true, cell: ({ delayed }) => `${compact(delayed)}/s` },
              { title: 'Refused', right: true, cell: ({ shed }) => `${compact(shed)}/s` },
              { title: 'At work', right: true, cell: ({ inFlight }) => count(inFlight) },
              { title: 'Waiting', right: true, cell: ({ waiting }) => count(waiting) },
              {
                title: 'Mean wait',
                right: true,
                cell: ({ meanWaitMs }) => (meanWaitMs === 0 ? '–' : duration(meanWaitMs)),
              },
              {
                title: 'Weight',
                cell: ({ name, weight }) => (
                  <>
                    <span class="number">{count(weight)}</span>
                    <Bar share={weight / weights} label={`Weight of ${name}`} />
                  </>
                ),
              },
              {
                title: 'Limit',
                right: true,
                cell: (row) => (row.limit === 0 ? 'none' : `${compact(row.limit)}/s`),
              },
            ]}
          />
        </Card>
      </div>
    </>
  )
}
