import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { Frame } from '../../../core/cli/top/frame.ts'
import { screenLines } from '../../../core/cli/top/screen-lines.ts'
import { paintLine } from '../../../core/cli/top/styled.ts'
import { quantileMs, type Sample, type TopView, viewOf } from '../../../core/cli/top/view.ts'
import type { StatusReply } from '../../../core/control/messages.ts'
import { parseMetrics } from '../../../sdk/admin/metrics.ts'

const status: StatusReply = {
  ...{ version: '1.2.3', node: 'node-a', region: 'here', pid: 7, startedMs: 1_000, state: 'degraded' },
  ...{ problems: ['the disk is full'], s3Endpoint: '', adminEndpoint: '', consoleEndpoint: '' },
  ...{ dataDirectory: '', storeKind: 'native', storeBackend: 'uring', requestsInFlight: 3, objectives: [] },
  store: {
    ...{ chunkCount: 5, liveBytes: 100, staleBytes: 0, capacityBytes: 1000, freeBytes: 250, indexBytes: 0 },
    ...{ cacheBytes: 0, cacheHits: 0, cacheMisses: 0, poolUsedBytes: 1, poolBytes: 4, corruptChunks: 2 },
    online: true,
  },
  catalog: {
    ...{ buckets: 1, objects: 5, versions: 5, uploads: 0, liveBytes: 100, garbageWrites: 0, position: 9 },
    bytesOnDisk: 1,
  },
} as StatusReply

/** So many requests since the process began: nine in ten within 10 ms, the others within 100 ms; one in ten fails. */
function sampleOf(requests: number, atMs: number, change: Partial<StatusReply> = {}): Sample {
  const text = `
process_cpu_seconds_total ${requests / 100}
process_resident_memory_bytes 1048576
pando_s3_requests_total{operation="GetObject",code="OK"} ${requests * 0.8}
pando_s3_requests_total{operation="GetObject",code="NoSuchKey"} ${requests * 0.1}
pando_s3_requests_total{operation="PutObject",code="InternalError"} ${requests * 0.1}
pando_s3_class_request_duration_seconds_bucket{le="0.01",class="interactive"} ${requests * 0.9}
pando_s3_class_request_duration_seconds_bucket{le="0.1",class="interactive"} ${requests}
pando_s3_class_request_duration_seconds_bucket{le="+Inf",class="interactive"} ${requests}
pando_s3_class_request_duration_seconds_count{class="interactive"} ${requests}
pando_slo_events_total{class="interactive",outcome="failed"} ${requests * 0.1}
pando_slo_events_total{class="bulk",outcome="failed"} 0
pando_slo_error_budget_remaining_ratio{class="interactive",objective="availability"} 0.5
pando_slo_error_budget_remaining_ratio{class="interactive",objective="latency"} -0.25
pando_qos_queue_depth{class="interactive"} 4
pando_cluster_node_up{node="node-a"} 1
pando_cluster_node_up{node="node-b"} 0
pando_link_up{peer="node-b"} 1
pando_link_state{peer="node-b",state="active"} 1
pando_link_transport_active{peer="node-b",transport="tcp"} 0
pando_link_transport_active{peer="node-b",transport="rdma"} 1
pando_link_transport_rtt_seconds{peer="node-b",transport="tcp",percentile="50"} 9
pando_link_transport_rtt_seconds{peer="node-b",transport="rdma",percentile="50"} 0.000025
pando_link_requests_total{peer="node-b"} ${requests * 2}
pando_tunnel_up{region="2",transport="quic"} 1
pando_tunnel_sent_bytes_total{region="2"} ${requests * 1024}
pando_replication_lag_seconds{bucket="near",region="2"} 0
pando_replication_lag_seconds{bucket="far",region="3"} 90
pando_replication_lag_entries{bucket="far",region="3"} 12
pando_replication_failed_entries{bucket="far",region="3"} 1
`
  return { atMs, nowMs: 61_000 + atMs, status: { ...status, ...change }, metrics: parseMetrics(text) }
}

const view = (): TopView => viewOf(sampleOf(1_000, 0), sampleOf(1_400, 2_000))

test('what happened between two looks is told per second, and of latencies only what was measured in between', () => {
  const { requests, process, classes, operations, nodes, links, tunnels, replication, ...rest } = view()
  assert.equal(requests.perSecond, 200)
  assert.ok(
    Math.abs(requests.errorsPerSecond - 20) < 1e-6,
    'what a client asks wrongly is no error of the node',
  )
  assert.equal(requests.inFlight, 3)
  assert.equal(process.cpu, 2)
  assert.deepEqual(rest.store, {
    ...{ backend: 'uring', usedBytes: 750, capacityBytes: 1000, chunks: 5, corruptChunks: 2 },
    ...{ cacheHitRatio: null, poolUsedRatio: 0.25 },
  })
  assert.equal(rest.uptimeMs, 62_000)
  const [interactive, bulk] = classes
  assert.equal(interactive?.perSecond, 200)
  assert.ok(Math.abs((interactive?.p50Ms ?? 0) - (10 * 0.5) / 0.9) < 1e-6)
  assert.ok(Math.abs((interactive?.p99Ms ?? 0) - 91) < 1e-6)
  assert.equal(interactive?.budgetLeftRatio, -0.25)
  assert.equal(interactive?.waiting, 4)
  assert.deepEqual([bulk?.p50Ms, bulk?.budgetLeftRatio], [null, null])
  assert.deepEqual(
    operations.map(({ name, perSecond }) => [name, Math.round(perSecond)]),
    [
      ['GetObject', 180],
      ['PutObject', 20],
    ],
  )
  assert.deepEqual(nodes, [
    { name: 'node-a', isUp: true },
    { name: 'node-b', isUp: false },
  ])
  assert.equal(links[0]?.transport, 'rdma')
  assert.ok(Math.abs((links[0]?.rttP50Ms ?? 0) - 0.025) < 1e-9, 'of the transport in use')
  assert.equal(links[0]?.requestsPerSecond, 400)
  assert.equal(tunnels[0]?.sentBytesPerSecond, 200 * 1024)
  assert.deepEqual(
    replication.map(({ bucket, lagMs, failedEntries }) => [bucket, lagMs, failedEntries]),
    [
      ['far', 90_000, 1],
      ['near', 0, 0],
    ],
    'what is furthest behind comes first',
  )
})

test('counters that begin anew with the process make no rate negative, nor a minute of work that of a second', () => {
  const before = sampleOf(100_000, 0)
  const after = sampleOf(50, 60_000, { pid: 8, startedMs: 61_000 + 60_000 - 500 })
  const { requests } = viewOf(before, after)
  assert.equal(requests.perSecond, 100)
  // The first look of all: nothing is known yet.
  const first = viewOf(before, before)
  assert.deepEqual([first.requests.perSecond, first.classes[0]?.p50Ms], [0, null])
})

test('a quantile lies in its bucket, and beyond the last bound nothing is made up', () => {
  const buckets = (...pairs: [number, number][]) => pairs.map(([le, count]) => ({ le, count }))
  assert.equal(quantileMs([], 0.5), null)
  assert.equal(quantileMs(buckets([1, 0], [Number.POSITIVE_INFINITY, 0]), 0.5), null)
  assert.equal(quantileMs(buckets([1, 10], [2, 20]), 0.5), 1000)
  assert.equal(quantileMs(buckets([1, 10], [2, 20]), 0.75), 1500)
  assert.equal(quantileMs(buckets([1, 1], [Number.POSITIVE_INFINITY, 100]), 0.99), 1000)
})

const note = { time: '14:03:09Z', problem: '', isLive: true }
const plain = (shown: TopView, columns: number, rows: number): readonly string[] =>
  screenLines(shown, note, { columns, rows }).map((line) => paintLine(line, columns, false))

test('a screen tells what is wrong first and leaves nothing out when there is room', () => {
  const lines = plain(view(), 200, 100)
  const text = lines.join('\n')
  assert.match(lines[0] ?? '', /node-a in here {3}degraded {3}up 1m 2s {3}pando 1\.2\.3 {3}14:03:09Z/)
  assert.match(lines[0] ?? '', / q quits$/)
  // Nobody can press a key at what was printed once, or into a file.
  const [printed = []] = screenLines(view(), { ...note, isLive: false }, { columns: 200, rows: 100 })
  assert.match(paintLine(printed, 200, false), /14:03:09Z *$/)
  assert.equal(lines[2], ' ! the disk is full')
  assert.match(text, /Requests 200\/s, 3 in flight, 20\/s failed/)
  assert.match(text, /Process {2}200 % of a core, 1\.00 MiB resident/)
  assert.match(text, /\[\|{15} {5}\] 75 % of 1000 B, 5 chunks, no reads, 2 damaged/)
  assert.match(text, /interactive +200 +20 +5\.6 ms +91 ms +0 +4 +0 +-25 %/)
  assert.match(text, /NODES: 1 OF 2 UP\n node-b is down/)
  assert.match(text, /node-b +active +rdma +400 +0 +0 +25 us +- +0 %/)
  assert.match(text, /far +3 +1m 30s +12 +1/)
  assert.match(text, /near +2 +- +0 +0/)
})

test('a small screen is never overrun, and what it leaves out is said', () => {
  const many = view()
  const crowded: TopView = {
    ...many,
    problems: Array.from({ length: 9 }, (_, index) => `problem ${index}`),
    replication: Array.from({ length: 40 }, (_, index) => ({
      ...{ bucket: `bucket-${index}`, region: '2', lagMs: 1, lagEntries: 1, failedEntries: 0 },
      isSynchronizing: false,
    })),
  }
  for (let rows = 1; rows < 70; rows++) {
    for (const columns of [1, 20, 79, 200]) {
      const lines = plain(crowded, columns, rows)
      assert.ok(lines.length <= rows, `${lines.length} lines in ${rows} rows`)
      assert.ok(lines.every((line) => line.length <= columns))
    }
  }
  const shown = plain(crowded, 80, 40).join('\n')
  assert.match(shown, /and 6 more: pando status/)
  assert.match(shown, /bucket-1 +2 [\s\S]*and \d\d more/)
})

test('names do not steer the terminal', () => {
  const [first] = view().replication
  assert.ok(first !== undefined)
  const hostile = { ...view(), replication: [{ ...first, bucket: 'a\x1b[2J\nb' }] }
  const lines = plain(hostile, 200, 100)
  assert.ok(lines.every((line) => !/\p{Cc}/u.test(line)))
  assert.ok(lines.some((line) => line.includes('a\\x1b[2J\\x0ab')))
})

/** What a terminal makes of the bytes, as far as frames use it. */
class Emulator {
  rows: string[]
  constructor(rows: number) {
    this.rows = Array<string>(rows).fill('')
  }
  write(bytes: string): void {
    let row = 0
    let column = 0
    for (const [, argument = '', letter, text = ''] of bytes.matchAll(
      /\x1b\[(\??[\d;]*)([A-Za-z])|([^\x1b]+)/g,
    )) {
      const line = this.rows[row] ?? ''
      if (letter === undefined) {
        this.rows[row] = line.slice(0, column) + text + line.slice(column + text.length)
        column += text.length
      } else if (letter === 'H') {
        row = Number(argument.split(';')[0]) - 1
        column = Number(argument.split(';')[1]) - 1
      } else if (letter === 'J') this.rows.fill('')
      else if (letter === 'K') this.rows[row] = line.slice(0, column)
    }
  }
}

test('whatever was shown before, a frame ends up as it was meant, and what stays is not written again', () => {
  const frames = fc.array(fc.array(fc.stringMatching(/^[a-z ]{0,12}$/), { maxLength: 8 }), { minLength: 1 })
  fc.assert(
    fc.property(frames, (sequence) => {
      const frame = new Frame()
      const emulator = new Emulator(6)
      for (const lines of sequence) {
        emulator.write(frame.next(lines, { columns: 20, rows: 6 }))
        const expected = Array.from({ length: 6 }, (_, row) => lines[row] ?? '')
        assert.deepEqual(emulator.rows, expected)
        assert.equal(frame.next(lines, { columns: 20, rows: 6 }), '')
      }
    }),
  )
  const frame = new Frame()
  frame.next(['first', 'second'], { columns: 20, rows: 6 })
  const change = frame.next(['first', 'other'], { columns: 20, rows: 6 })
  assert.ok(change.includes('other') && !change.includes('first') && !change.includes('\x1b[2J'), change)
  // Of another size everything is written anew.
  assert.ok(frame.next(['first', 'other'], { columns: 10, rows: 6 }).includes('first'))
})
