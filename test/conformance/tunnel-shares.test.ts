import assert from 'node:assert/strict'
import test, { type TestContext } from 'node:test'
import { silentLogger } from '../../core/contract/logger.ts'
import type { TunnelBackend } from '../../core/contract/tunnel.ts'
import { realEnvironment } from '../../core/node/environment.ts'
import { loadQuic } from '../../federation/tunnel/quic/quic-module.ts'
import { quicBackend } from '../../federation/tunnel/quic-backend.ts'
import type { RunningTunnels } from '../../federation/tunnel/region-tunnels.ts'
import { tlsBackend } from '../../federation/tunnel/tls-backend.ts'
import { startRegion } from '../kit/federation-region.ts'

const environment = realEnvironment
const { clock } = environment
const limit = 8_000_000
/** Each has up to 256 KiB of its own on the way: without shares everything would wait for a second. */
const streams = 32

/** Region 1 sends to region 2 as much as it may. */
async function saturate(t: TestContext, backend: TunnelBackend) {
  let bytesPerSecond = limit
  const one = await startRegion(t, 1, { backend, bytesPerSecond: () => bytesPerSecond })
  const two = await startRegion(t, 2, { backend, isEdge: true })
  const piece = new Uint8Array(256 * 1024)
  one.tunnels.serve('replication', async (_, { writable, classify }) => {
    classify?.('bulk')
    for (;;) await writable.write(piece)
  })
  one.tunnels.serve('failover', async (_, { readable, writable }) => {
    for (let next = await readable.read(); !next.done; next = await readable.read()) {
      await writable.write(next.value)
    }
    await writable.close()
  })
  await two.tunnels.join((await one.tunnels.invite({ validMs: 60_000 })).token)
  const until = clock.monotonic() + 10_000
  while (two.tunnels.connected().length === 0) {
    assert.ok(clock.monotonic() < until, 'there is no tunnel')
    await clock.sleep(20)
  }
  let received = 0
  const drain = async (): Promise<void> => {
    const { readable } = await two.tunnels.open(1, 'replication')
    for (let next = await readable.read(); !next.done; next = await readable.read()) {
      received += next.value.length
    }
  }
  for (let at = 0; at < streams; at++) drain().catch(() => undefined)
  await clock.sleep(500)
  return {
    tunnels: two.tunnels,
    source: one.tunnels,
    received: () => received,
    setLimit: (next: number) => {
      bytesPerSecond = next
    },
  }
}

/** Milliseconds that a few bytes take there and back, again and again. */
async function roundTrips(tunnels: RunningTunnels, count: number): Promise<readonly number[]> {
  const { readable, writable } = await tunnels.open(1, 'failover')
  const times: number[] = []
  for (let at = 0; at < count; at++) {
    const began = clock.monotonic()
    await writable.write(Buffer.from('beat'))
    await readable.read()
    times.push(clock.monotonic() - began)
    await clock.sleep(20)
  }
  await writable.close()
  await readable.cancel()
  return times.toSorted((left, right) => left - right)
}

const module = loadQuic()
const backends: readonly TunnelBackend[] = [
  tlsBackend({ environment, log: silentLogger }),
  ...(module === undefined ? [] : [quicBackend({ module, environment, log: silentLogger })]),
]

for (const backend of backends) {
  test(`${backend.name}: a link that is full of bodies keeps its limit, and leaves leases alone`, async (t) => {
    const { tunnels, source, received, setLimit } = await saturate(t, backend)
    let times: readonly number[] = []
    const rate = await settlesAt(limit, received, async () => {
      times = await roundTrips(tunnels, 100)
    })
    const median = times[50] ?? Number.NaN
    t.diagnostic(
      `${(rate / 1e6).toFixed(2)} MB/s of ${limit / 1e6}; there and back ${median.toFixed(1)} ms, at most ${times.at(-1)?.toFixed(1)} ms`,
    )
    // A body more in front of a lease and it would be ten; all of them, a second.
    assert.ok(median < 50, `${median} ms`)
    const [share] = source.shares()
    assert.equal(share?.bytesPerSecond, limit)
    assert.ok((share?.sentBytes.get('failover') ?? 0) >= 400)
    // A new limit counts while everybody waits by the old one.
    setLimit(limit / 4)
    await clock.sleep(500)
    await settlesAt(limit / 4, received, () => clock.sleep(1_500))
  })
}

/**
 * A busy machine lets a link stand still for a while. In one of the looks it is as fast as it may be; in all of them together it is never
 * faster: what was missed is not caught up.
 */
async function settlesAt(
  bytesPerSecond: number,
  received: () => number,
  during: () => Promise<void>,
): Promise<number> {
  const first = { bytes: received(), atMs: clock.monotonic() }
  const rateSince = ({ bytes, atMs }: typeof first): number =>
    ((received() - bytes) / (clock.monotonic() - atMs)) * 1000
  const rates: number[] = []
  const most = bytesPerSecond * 1.1
  for (let look = 0; look < 8; look++) {
    const since = { bytes: received(), atMs: clock.monotonic() }
    await during()
    const rate = rateSince(since)
    rates.push(Math.round(rate))
    assert.ok(rateSince(first) <= most, `${rates} bytes a second`)
    if (rate >= bytesPerSecond * 0.9 && rate <= most) return rate
  }
  assert.fail(`${rates} bytes a second, not once ${bytesPerSecond}`)
}
