import assert from 'node:assert/strict'
import test from 'node:test'
import { describeLinks } from '../../../core/cli/links.ts'
import { linksReport } from '../../kit/link-reports.ts'

const lines = (text: string): readonly string[] =>
  text.split('\n').map((line) => line.replace(/ {2,}/g, ' | ').trim())

test('a link is shown with its ways, what was measured on each, and why one of them is used', () => {
  const shown = lines(describeLinks(linksReport))
  assert.ok(
    shown.includes('node-b | active | 1m 5s | tcp | 1000 | 4 | 2 | 1 | 1 | adaptive@1.0.0: plain TCP fits'),
    shown.join('\n'),
  )
  assert.ok(
    shown.some((line) =>
      /^\* \| node-b \| tcp .* up \| aes-256-gcm \| 250 us \| 1\.5 ms \| 125 us \| 50 % \| 75 % /.test(line),
    ),
  )
  assert.ok(
    shown.some((line) =>
      /node-b \| rdma .* down \| - .*PEER_UNREACHABLE: no RDMA device; again in 2s$/.test(line),
    ),
    'what is down shows why, and no measurements',
  )
})

test('listeners tell whom they refused, the history why it was left, the latest first', () => {
  const shown = lines(describeLinks(linksReport))
  assert.ok(shown.includes('tcp | 10.0.0.1:9003 | 2 | 3 | last refused: a stranger (from 10.9.9.9:1)'))
  assert.ok(shown.includes('rdma | 10.1.0.1:9003 | 0 | 0 | down: no RDMA device'))
  const forced = shown.findIndex((line) => line.endsWith('forced: it died; nothing was up for 12.5 ms'))
  const first = shown.findIndex((line) => line.startsWith('2023-11-14 22:13:20Z | node-b | - | rdma'))
  assert.ok(forced > 0 && first > forced, shown.join('\n'))
})

test('without peers it says so, and what to do', () => {
  const shown = describeLinks({ ...linksReport, enabled: false, listeners: [], links: [] })
  assert.match(shown, /This node has no peers: it connects to no other node and lets none in\./)
  assert.match(shown, /`peers`.*pando config schema/)
  assert.match(shown, /rdma +no +no RDMA device \(buy one\)/)
})

test('a control character in what a peer said does not steer the terminal', () => {
  const [listener] = linksReport.listeners
  assert.ok(listener)
  const shown = describeLinks({ ...linksReport, listeners: [{ ...listener, lastRefusal: 'a\x1b[2Jb' }] })
  assert.ok(!shown.includes('\x1b'))
})
