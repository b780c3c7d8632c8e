import assert from 'node:assert/strict'
import test from 'node:test'
import { FakeClock } from '../../kit/fake-clock.ts'
import { openTestQos, percentile, requestOf } from '../../kit/qos-bench.ts'

/** What a request costs the loop before it is admitted (parsing, signature), and afterwards, in ms. */
const parseMs = 0.25
const serveMs = 0.25
/** From an answer to the next request of the connection. */
const thinkMs = 0.5

interface Connection {
  readonly tenant: string
  sentMs: number
}

/**
 * A server of one event loop that answers out of memory, with a client whose connections send again when they are
 * answered: each turn of the loop reads everything that has arrived, as epoll does, and then calls who asked for the next turn.
 */
async function serve(connections: Readonly<Record<string, number>>, isFair: boolean) {
  const clock = new FakeClock()
  let calls: (() => void)[] = []
  const qos = isFair
    ? openTestQos(clock, {}, (go) => calls.push(go))
    : openTestQos(clock, { concurrency: { limit: 100_000 } })
  let arriving: Connection[] = Object.entries(connections).flatMap(([tenant, count]) =>
    Array.from({ length: count }, () => ({ tenant, sentMs: clock.monotonic() })),
  )
  const latenciesMs = new Map<string, number[]>()
  const fromMs = clock.monotonic() + 2500
  const untilMs = fromMs + 2000
  const next: Connection[] = []
  const granted: (() => Promise<void>)[] = []
  while (clock.monotonic() < untilMs) {
    const now = clock.monotonic()
    const ready = arriving.filter(({ sentMs }) => sentMs <= now)
    arriving = arriving.filter(({ sentMs }) => sentMs > now)
    for (const connection of ready) {
      await clock.advance(parseMs)
      const ticket = qos.admission.admit(requestOf(connection.tenant))
      const answer = async (): Promise<void> => {
        await clock.advance(serveMs)
        ticket.end(0, 0)
        const answeredMs = clock.monotonic()
        if (connection.sentMs >= fromMs) {
          const list = latenciesMs.get(connection.tenant) ?? []
          list.push(answeredMs - connection.sentMs)
          latenciesMs.set(connection.tenant, list)
        }
        connection.sentMs = answeredMs + thinkMs
        next.push(connection)
      }
      if (ticket.turn === undefined) await answer()
      else
        ticket.turn.then(
          () => granted.push(answer),
          () => undefined,
        )
    }
    const due = calls
    calls = []
    for (const call of due) call()
    await clock.advance(0)
    for (const answer of granted.splice(0)) await answer()
    arriving.push(...next.splice(0))
    if (ready.length === 0 && due.length === 0) await clock.advance(0.25)
  }
  qos.close()
  const all = [...latenciesMs.values()].flat().length
  const others = [...latenciesMs].filter(([tenant]) => tenant !== 'greedy').flatMap(([, list]) => list)
  return {
    perSecond: all / 2,
    share: (latenciesMs.get('greedy')?.length ?? 0) / all,
    p99Ms: percentile(others, 0.99),
  }
}

test('requests that are answered within one turn of the event loop are in fair order too', async () => {
  const modest = { m1: 6, m2: 6, m3: 6, m4: 6, m5: 6 }
  const rows: string[] = []
  const measure = async (name: string, isFair: boolean) => {
    const quiet = await serve({ greedy: 6, ...modest }, isFair)
    const loud = await serve({ greedy: 60, ...modest }, isFair)
    rows.push(
      `${name.padEnd(20)} p99 of the others ${quiet.p99Ms.toFixed(1)} -> ${loud.p99Ms.toFixed(1)} ms, ` +
        `share of the greedy one ${(loud.share * 100).toFixed(1)} %, ${loud.perSecond.toFixed(0)}/s`,
    )
    return { ...loud, moved: loud.p99Ms / quiet.p99Ms - 1 }
  }
  const without = await measure('without fair order', false)
  const fair = await measure('as configured', true)
  console.log(rows.join('\n'))
  assert.ok(without.share > 0.6 && without.moved > 0.5, 'the load is no test at all')
  assert.ok(fair.share < 0.2, rows.join('\n'))
  assert.ok(fair.moved < 0.2, rows.join('\n'))
  assert.ok(fair.perSecond > without.perSecond * 0.98, rows.join('\n'))
})
