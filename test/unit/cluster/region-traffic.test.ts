import assert from 'node:assert/strict'
import { test } from 'node:test'
import { describeTraffic, regionTraffic } from '../../kit/region-traffic.ts'

/** A record of the stream that orders the log (core/cluster/nats/order-streams.ts). */
const maxRecordBytes = 1024 * 1024

test('what nodes say to each other unasked grows with their number, and is told as it is', (t) => {
  const sizes = [3, 100, 1000, 3500, 10_000].map(regionTraffic)
  const [few, hundred, thousand, most, tenThousand] = sizes
  assert.ok(few && hundred && thousand && most && tenThousand)
  for (const traffic of sizes) t.diagnostic(describeTraffic(traffic))
  // Every node talks to every other one: right for the regions that there are, and what a larger one would have to change.
  assert.ok(few.voter.bytesPerSecond < 2048)
  assert.ok(hundred.voter.bytesPerSecond < 64 * 1024)
  assert.ok(thousand.voter.bytesPerSecond < 1024 * 1024)
  assert.ok(
    tenThousand.other.connections > 10_000,
    'not a mesh any more? then say so in core/node/cluster/README.md',
  )
  // A map that does not fit a record could not be changed any more.
  assert.ok(most.mapBytes < maxRecordBytes, `${most.mapBytes}`)
})
