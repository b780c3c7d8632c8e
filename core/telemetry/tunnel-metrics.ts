import type { FederationStatus, PeerStatus } from '../contract/federation.ts'
import type { LinkShare } from '../contract/tunnel.ts'
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

/** How the links to other regions are shared, read at scrape time. */
export function registerLinkShareMetrics(registry: Registry, shares: () => readonly LinkShare[]): void {
  new Counter({
    name: 'pando_tunnel_class_sent_bytes_total',
    help: 'Payload sent by class of what shares the link.',
    labelNames: ['region', 'class'],
    registers: [registry],
    collect() {
      this.reset()
      for (const { region, sentBytes } of shares()) {
        for (const [linkClass, bytes] of sentBytes) this.inc({ region, class: linkClass }, bytes)
      }
    },
  })
  new Gauge({
    name: 'pando_tunnel_rate_limit_bytes_per_second',
    help: 'What this node may send to the region; 0: no limit.',
    labelNames: ['region'],
    registers: [registry],
    collect() {
      this.reset()
      for (const { region, bytesPerSecond } of shares()) this.set({ region }, bytesPerSecond)
    },
  })
}
