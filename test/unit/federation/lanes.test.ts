import assert from 'node:assert/strict'
import test from 'node:test'
import { silentLogger } from '../../../core/contract/logger.ts'
import type { TunnelSession } from '../../../core/contract/tunnel.ts'
import { realEnvironment } from '../../../core/node/environment.ts'
import { PeerTunnels } from '../../../federation/tunnel/peer-tunnels.ts'

test('streams that are opened in one turn are spread over all connections, later ones go where there are fewest', async (t) => {
  const peer = new PeerTunnels({
    ...{ regionId: 1, ownRegionId: 2, environment: realEnvironment, log: silentLogger },
    dial: async () => undefined,
    mayDial: () => false,
    bytesPerSecond: () => 0,
    onChange: () => undefined,
  })
  t.after(() => peer.close('over'))
  assert.equal(peer.takeWidest(), undefined)
  const open = [0, 0, 0, 0]
  const lanes = open.map((_, at) => {
    const stats = () => ({ rttMs: 80, bytesSent: 0, bytesReceived: 0, openStreams: open[at] ?? 0 })
    return { stats, closed: new Promise(() => undefined), close: () => undefined } as unknown as TunnelSession
  })
  for (const lane of lanes) peer.addLane(lane)
  // None of them counts yet.
  const taken = Array.from({ length: 12 }, () => lanes.indexOf(peer.takeWidest() ?? ({} as TunnelSession)))
  assert.deepEqual(
    lanes.map((_, at) => taken.filter((one) => one === at).length),
    [3, 3, 3, 3],
  )
  open.splice(0, 4, 3, 2, 0, 3)
  assert.equal(peer.takeWidest(), lanes[2])
})
