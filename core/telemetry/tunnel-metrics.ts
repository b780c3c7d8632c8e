import type { FederationStatus, PeerStatus } from '../contract/federation.ts'
import { Counter, Gauge, type Registry } from './metrics.ts'

type Tunnel = NonNullable<PeerStatus['tunnel']>

/** Tunnels of this node to other regions, read at scrape time. Labels are bounded by the regions that are joined. */
export function registerTunnelMetrics(registry: Registry, status: () => FederationStatus): void {
  const perTunnel = (
    kind: typeof Counter | typeof Gauge,
    name: string,
    help: string,
    read: (tunnel: Tunnel) => number | undefined,
  ): void => {
    new kind({
      name: `pando_tunnel_${name}`,
      help,
      labelNames: ['region'],
      registers: [registry],
      collect() {
        const { peers } = status()
        this.reset()
        for (const { name: region, tunnel } of peers) {
          const value = tunnel === undefined ? undefined : read(tunnel)
          if (value !== undefined) this.inc({ region }, value)
        }
      },
    })
  }
  new Gauge({
    name: 'pando_tunnel_up',
    help: '1 while this node has a tunnel to a region that is joined, otherwise 0.',
    labelNames: ['region', 'transport'],
    registers: [registry],
    collect() {
      const { peers } = status()
      this.reset()
      for (const { name: region, isConnected, tunnel } of peers) {
        this.set({ region, transport: tunnel?.backend ?? '' }, Number(isConnected))
      }
    },
  })
  perTunnel(Gauge, 'rtt_seconds', 'Round trip of the last probe.', ({ rttMs }) =>
    rttMs === 0 ? undefined : rttMs / 1000,
  )
  perTunnel(Gauge, 'open_streams', 'Streams that are open.', ({ openStreams }) => openStreams)
  perTunnel(Counter, 'sent_bytes_total', 'Bytes sent, with framing.', ({ bytesSent }) => bytesSent)
  perTunnel(
    Counter,
    'received_bytes_total',
    'Bytes received, with framing.',
    ({ bytesReceived }) => bytesReceived,
  )
}
