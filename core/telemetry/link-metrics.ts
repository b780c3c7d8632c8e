import type { LinkReport, NodeLinksReport } from '../contract/link.ts'
import { Counter, Gauge, type Registry } from './metrics.ts'

/**
 * What links and their listeners do, read at scrape time. Labels are bounded by the configuration: peers, and the transports
 * of this build.
 */
export function registerLinkMetrics(
  registry: Registry,
  snapshot: () => Pick<NodeLinksReport, 'links' | 'listeners'>,
): void {
  const perLink = (
    kind: typeof Counter | typeof Gauge,
    name: string,
    help: string,
    read: (link: LinkReport) => number,
  ): void => {
    new kind({
      name: `pando_link_${name}`,
      help,
      labelNames: ['peer'],
      registers: [registry],
      collect() {
        this.reset()
        for (const link of snapshot().links) this.inc({ peer: link.peer }, read(link))
      },
    })
  }
  perLink(
    Gauge,
    'up',
    '1 while some transport carries the link to a peer, 0 while none does.',
    ({ active }) => (active === '' ? 0 : 1),
  )
  perLink(
    Gauge,
    'requests_in_flight',
    'Requests to a peer that are not answered yet.',
    ({ inFlight }) => inFlight,
  )
  perLink(Counter, 'requests_total', 'Requests to a peer.', ({ requests }) => requests)
  perLink(
    Counter,
    'resent_total',
    'Requests that lost their session and were sent again on another one.',
    ({ resent }) => resent,
  )
  perLink(
    Counter,
    'errors_total',
    'Requests that failed because the peer could not be reached in time.',
    (link) => link.failed,
  )
  perLink(
    Counter,
    'switches_total',
    'Times that a link went over to another session or transport.',
    (link) => link.switchCount,
  )
  new Gauge({
    name: 'pando_link_state',
    help: 'The state of a link as a label; always 1.',
    labelNames: ['peer', 'state'],
    registers: [registry],
    collect() {
      this.reset()
      for (const { peer, state } of snapshot().links) this.set({ peer, state }, 1)
    },
  })

  const perTransport = (
    name: string,
    help: string,
    read: (candidate: LinkReport['candidates'][number], link: LinkReport) => number,
  ): void => {
    new Gauge({
      name: `pando_link_transport_${name}`,
      help,
      labelNames: ['peer', 'transport'],
      registers: [registry],
      collect() {
        this.reset()
        for (const link of snapshot().links) {
          for (const candidate of link.candidates) {
            this.set({ peer: link.peer, transport: candidate.id }, read(candidate, link))
          }
        }
      },
    })
  }
  perTransport('active', '1 for the transport that carries the link now.', ({ id }, { active }) =>
    id === active ? 1 : 0,
  )
  perTransport('up', '1 while a transport is connected and answers its probes.', ({ state }) =>
    state === 'down' ? 0 : 1,
  )
  perTransport(
    'loss_ratio',
    'Share of the probes of the last ten seconds without an answer.',
    ({ loss }) => loss,
  )
  perTransport(
    'health_ratio',
    '1 minus the share of requests that the path made fail lately.',
    ({ health }) => health,
  )
  new Gauge({
    name: 'pando_link_transport_rtt_seconds',
    help: 'Round trips of the probes of the last ten seconds.',
    labelNames: ['peer', 'transport', 'percentile'],
    registers: [registry],
    collect() {
      this.reset()
      for (const { peer, candidates } of snapshot().links) {
        for (const { id: transport, state, rttP50Ms, rttP99Ms } of candidates) {
          // What is down has no round trip: an old number must not look like a new one.
          if (state === 'down') continue
          this.set({ peer, transport, percentile: '50' }, rttP50Ms / 1000)
          this.set({ peer, transport, percentile: '99' }, rttP99Ms / 1000)
        }
      }
    },
  })

  new Gauge({
    name: 'pando_rpc_sessions',
    help: 'Sessions of other nodes that are open here.',
    labelNames: ['transport'],
    registers: [registry],
    collect() {
      this.reset()
      for (const { transport, sessions } of snapshot().listeners) this.set({ transport }, sessions)
    },
  })
  new Counter({
    name: 'pando_rpc_refused_total',
    help: 'Peers that were turned away: strangers, other regions, other versions.',
    labelNames: ['transport'],
    registers: [registry],
    collect() {
      this.reset()
      for (const { transport, refused } of snapshot().listeners) this.inc({ transport }, refused)
    },
  })
}
