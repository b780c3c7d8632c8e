import type { BucketReplicationStatus, FederationStatus, PeerStatus } from '../../../../sdk/admin/index.ts'
import { admin } from '../node.ts'
import { Badge, Card, Failure, Head, Table } from '../parts/frame.tsx'
import { Icon } from '../parts/icons.tsx'
import { usePoll } from '../poll.ts'
import { ago, bytes, count, duration, plural } from '../text.ts'

export function Federation() {
  const { value, error } = usePoll(async (signal) => {
    const [federation, replication] = await Promise.all([
      admin.federation.status({ signal }),
      admin.replication.report({ signal }).catch(() => []),
    ])
    return { federation, replication }
  })
  return (
    <>
      <Head
        title="Federation"
        about={
          value === undefined
            ? undefined
            : `Region ${value.federation.regionId}, ${value.federation.name}, with ${plural(value.federation.peers.length, 'other')}`
        }
      />
      <div class="stack">
        <Failure text={error} />
        {value !== undefined && value.federation.problem !== '' && (
          <p class="notice bad">{value.federation.problem}</p>
        )}
        {value !== undefined && value.federation.peers.length === 0 && (
          <Card>
            <div class="empty">
              <Icon name="federation" size={34} />
              <p>
                This region is on its own. <code>pando federation invite</code> makes a token for another one.
              </p>
            </div>
          </Card>
        )}
        {value !== undefined && value.federation.peers.length > 0 && (
          <>
            <Card title="Map">
              <RegionMap federation={value.federation} replication={value.replication} />
            </Card>
            <Peers peers={value.federation.peers} />
          </>
        )}
        {value !== undefined && value.replication.length > 0 && <Replicated buckets={value.replication} />}
      </div>
    </>
  )
}

const width = 760

/** What a region lacks of all buckets that are written here: the oldest of it. */
function lagOf(region: number, replication: readonly BucketReplicationStatus[]): number | undefined {
  const lags = replication.flatMap(({ outgoing }) =>
    outgoing.filter((each) => each.region === region).map(({ oldestUnshippedMs }) => oldestUnshippedMs),
  )
  return lags.length === 0 ? undefined : Math.max(...lags)
}

/** This region in the middle, the others around it; the tables below say the same in words. */
function RegionMap({
  federation,
  replication,
}: {
  readonly federation: FederationStatus
  readonly replication: readonly BucketReplicationStatus[]
}) {
  const { peers } = federation
  const isPair = peers.length === 1
  const height = isPair ? 120 : 340
  const here = { x: isPair ? width * 0.24 : width / 2, y: height / 2 }
  const places = peers.map((peer, index) => {
    const angle = (index / peers.length) * 2 * Math.PI - Math.PI / 2
    const x = isPair ? width * 0.76 : here.x + Math.cos(angle) * 270
    const y = isPair ? here.y : here.y + Math.sin(angle) * 120
    return { peer, x, y, lagMs: lagOf(peer.regionId, replication) }
  })
  const words = places.map(
    ({ peer, lagMs }) =>
      `${peer.name} ${peer.isConnected ? 'connected' : 'not connected'}${lagMs === undefined ? '' : `, ${duration(lagMs)} behind`}`,
  )
  return (
    <svg
      class="map"
      viewBox={`0 0 ${width} ${height}`}
      role="img"
      aria-label={`Regions: ${words.join('; ')}`}
    >
      {places.map(({ peer, x, y, lagMs }) => (
        <g key={peer.regionId}>
          <line
            class={
              peer.isConnected ? (lagMs !== undefined && lagMs > 60_000 ? 'wire warn' : 'wire') : 'wire bad'
            }
            x1={here.x}
            y1={here.y}
            x2={x}
            y2={y}
          />
          <text class="small" x={(here.x + x) / 2} y={(here.y + y) / 2 - 8}>
            {peer.isConnected
              ? `${duration(peer.tunnel?.rttMs ?? 0)}${lagMs === undefined ? '' : `, lag ${duration(lagMs)}`}`
              : 'no tunnel'}
          </text>
        </g>
      ))}
      {places.map(({ peer, x, y }) => (
        <g key={peer.regionId}>
          <rect class="region" x={x - 72} y={y - 27} width={144} height={54} rx={12} />
          <text x={x} y={y - 2}>
            {peer.name.slice(0, 18)}
          </text>
          <text class="small" x={x} y={y + 16}>
            region {peer.regionId}
          </text>
        </g>
      ))}
      <rect class="region here" x={here.x - 80} y={here.y - 30} width={160} height={60} rx={14} />
      <text x={here.x} y={here.y - 3}>
        {federation.name.slice(0, 20)}
      </text>
      <text class="small" x={here.x} y={here.y + 16}>
        region {federation.regionId}, here
      </text>
    </svg>
  )
}

function Peers({ peers }: { readonly peers: readonly PeerStatus[] }) {
  return (
    <Card title="Regions" flush>
      <Table
        label="Regions"
        rows={peers}
        id={({ regionId }) => String(regionId)}
        columns={[
          {
            title: 'Region',
            cell: ({ name, regionId }) => <span class="name">{`${name} (${regionId})`}</span>,
          },
          {
            title: 'Tunnel',
            cell: ({ isConnected, problem, tunnel }) => (
              <Badge tone={isConnected ? 'good' : 'bad'}>
                {isConnected ? (tunnel?.backend ?? 'connected') : problem || 'none'}
              </Badge>
            ),
          },
          {
            title: 'Since',
            oneLine: true,
            cell: ({ tunnel }) => (tunnel === undefined ? '–' : ago(tunnel.sinceMs)),
          },
          {
            title: 'Round trip',
            right: true,
            cell: ({ tunnel }) => (tunnel === undefined ? '–' : duration(tunnel.rttMs)),
          },
          {
            title: 'Sent',
            right: true,
            cell: ({ tunnel }) => (tunnel === undefined ? '–' : bytes(tunnel.bytesSent)),
          },
          {
            title: 'Received',
            right: true,
            cell: ({ tunnel }) => (tunnel === undefined ? '–' : bytes(tunnel.bytesReceived)),
          },
          {
            title: 'Endpoints',
            cell: ({ endpoints }) => <span class="mono">{endpoints.join(', ') || 'dials only'}</span>,
          },
          { title: 'Newest key', cell: ({ knowsNewestKey }) => (knowsNewestKey ? 'known' : 'not yet known') },
        ]}
      />
    </Card>
  )
}

interface CopyRow {
  readonly status: BucketReplicationStatus
  readonly region: number
  readonly way: 'out' | 'in'
  readonly lagEntries: number
  readonly behindMs: number
  readonly dead: number
  readonly synchronizing: boolean
}

function Replicated({ buckets }: { readonly buckets: readonly BucketReplicationStatus[] }) {
  const rows: readonly CopyRow[] = buckets.flatMap((status) => [
    ...status.outgoing.map(({ region, lagEntries, oldestUnshippedMs, dead, synchronizing }) => ({
      ...{ status, region, lagEntries, dead, synchronizing },
      way: 'out' as const,
      behindMs: oldestUnshippedMs,
    })),
    ...status.incoming.map(({ region, lagEntries, heardMs, dead, synchronizing }) => ({
      ...{ status, region, lagEntries, dead, synchronizing },
      way: 'in' as const,
      behindMs: heardMs,
    })),
  ])
  return (
    <Card title="Replicated buckets" flush>
      <Table
        label="Replicated buckets"
        rows={rows}
        id={({ status, region, way }) => `${status.bucket} ${region} ${way}`}
        columns={[
          { title: 'Bucket', cell: ({ status }) => <span class="name">{status.bucket}</span> },
          { title: 'Mode', cell: ({ status }) => status.rule.mode },
          {
            title: 'Direction',
            cell: ({ way, region }) => (way === 'out' ? `to region ${region}` : `from region ${region}`),
          },
          {
            title: 'State',
            cell: ({ status, dead, synchronizing, lagEntries }) =>
              dead > 0 ? (
                <Badge tone="bad">{count(dead)} given up</Badge>
              ) : status.isBreached ? (
                <Badge tone="warn">objective missed</Badge>
              ) : synchronizing ? (
                <Badge tone="accent">first copy</Badge>
              ) : (
                <Badge tone="good">{lagEntries === 0 ? 'in step' : 'follows'}</Badge>
              ),
          },
          { title: 'Lacks', right: true, cell: ({ lagEntries }) => plural(lagEntries, 'change') },
          {
            title: 'Oldest, or last heard',
            right: true,
            cell: ({ behindMs }) => (behindMs < 0 ? 'not yet' : duration(behindMs)),
          },
          {
            title: 'Objective',
            right: true,
            cell: ({ status }) => (status.rule.rpoMs === 0 ? '–' : duration(status.rule.rpoMs)),
          },
        ]}
      />
    </Card>
  )
}
