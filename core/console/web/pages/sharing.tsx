import type { AccessKey, PolicyList, PublicationStatus, SharedRegion } from '../../../../sdk/admin/index.ts'
import { admin } from '../node.ts'
import { Badge, Card, Failure, Head, Said, Table, type Tone } from '../parts/frame.tsx'
import { Icon } from '../parts/icons.tsx'
import { useQuestion } from '../parts/question.tsx'
import { usePoll } from '../poll.ts'
import { bytes, digest, duration, plural } from '../text.ts'
import { AcceptFrom, OfferPolicy, ShareKey, WithdrawPolicy } from './sharing-questions.tsx'

type Asked =
  | { readonly what: 'accept'; readonly region: SharedRegion }
  | { readonly what: 'key'; readonly key: AccessKey }
  | { readonly what: 'offer' }
  | { readonly what: 'withdraw'; readonly name: string }

/** What joined regions share beside data: access keys, policies, how they are. */
export function Sharing() {
  const { value, error, refresh } = usePoll(async (signal) => {
    const [sharing, keys, policies] = await Promise.all([
      admin.sharing.status({ signal }),
      admin.keys.list({ signal }),
      admin.policies.list({ signal }),
    ])
    return { ...sharing, keys, policies }
  })
  const { asked, ask, close, said } = useQuestion<Asked>(refresh)
  const regions = value?.regions ?? []
  return (
    <>
      <Head
        title="Sharing"
        about={value === undefined ? undefined : `With ${plural(regions.length, 'joined region')}`}
      />
      <div class="stack">
        <Failure text={error} />
        <Said text={said} />
        {value !== undefined && regions.length === 0 && (
          <Card>
            <div class="empty">
              <Icon name="sharing" size={34} />
              <p>
                This region is on its own: there is nobody to share with. <code>pando federation invite</code>{' '}
                makes a token for another one.
              </p>
            </div>
          </Card>
        )}
        {value !== undefined && regions.length > 0 && (
          <>
            <Regions regions={regions} onAsk={(region) => ask({ what: 'accept', region })} />
            <Keys keys={value.keys} regions={regions} onAsk={(key) => ask({ what: 'key', key })} />
            <Offered
              publications={value.publications}
              policies={value.policies}
              regions={regions}
              onOffer={() => ask({ what: 'offer' })}
              onWithdraw={(name) => ask({ what: 'withdraw', name })}
            />
          </>
        )}
      </div>
      {asked?.what === 'accept' && <AcceptFrom region={asked.region} onClose={close} />}
      {asked?.what === 'key' && <ShareKey accessKey={asked.key} regions={regions} onClose={close} />}
      {asked?.what === 'offer' && value !== undefined && (
        <OfferPolicy policies={value.policies} regions={regions} onClose={close} />
      )}
      {asked?.what === 'withdraw' && <WithdrawPolicy name={asked.name} onClose={close} />}
    </>
  )
}

const stateTones: Readonly<Record<string, Tone>> = { ready: 'good', degraded: 'warn' }

function Regions({
  regions,
  onAsk,
}: {
  readonly regions: readonly SharedRegion[]
  readonly onAsk: (region: SharedRegion) => void
}) {
  return (
    <Card title="Regions" flush>
      <Table
        label="Regions"
        rows={regions}
        id={({ regionId }) => String(regionId)}
        columns={[
          {
            title: 'Region',
            cell: ({ name, regionId }) => <span class="name">{`${name} (${regionId})`}</span>,
          },
          { title: 'State', cell: (region) => <RegionState region={region} /> },
          {
            title: 'Behind',
            cell: ({ health }) =>
              health === undefined ? '–' : `${duration(health.lagMs)}, ${bytes(health.backlogBytes)}`,
          },
          { title: 'It takes of us', cell: ({ isAccepting }) => isAccepting.join(', ') || 'nothing' },
          { title: 'Keys given', cell: (region) => <KeysGiven region={region} /> },
          { title: 'We take of it', cell: ({ accepts }) => accepts.join(', ') || 'nothing' },
          {
            title: 'Keys taken',
            cell: ({ keysTaken, keysProblem }) =>
              keysProblem === '' ? (
                <span class="number">{keysTaken}</span>
              ) : (
                <Badge tone="bad">{keysProblem}</Badge>
              ),
          },
          {
            title: '',
            cell: (region) => (
              <button
                type="button"
                class="plain"
                aria-label={`Change what is taken of ${region.name}`}
                onClick={() => onAsk(region)}
              >
                Change
              </button>
            ),
          },
        ]}
      />
    </Card>
  )
}

function RegionState({ region: { health, heardMs, isConnected } }: { readonly region: SharedRegion }) {
  if (health === undefined) return <Badge tone="plain">not heard of yet</Badge>
  const heard = isConnected ? '' : `, heard ${duration(heardMs)} ago`
  const problems = health.problems.length === 0 ? '' : `: ${health.problems.join('; ')}`
  return (
    <Badge tone={isConnected ? (stateTones[health.state] ?? 'plain') : 'bad'}>
      {`${isConnected ? '' : 'not connected; was '}${health.state}${problems}${heard}`}
    </Badge>
  )
}

function KeysGiven({ region: { keysGiven, keysLagMs } }: { readonly region: SharedRegion }) {
  if (keysGiven === 0 && keysLagMs <= 0) return <span class="number">0</span>
  const tone = keysLagMs === 0 ? 'good' : 'warn'
  const state =
    keysLagMs === 0
      ? 'as they are'
      : keysLagMs < 0
        ? 'it has not told'
        : `a change behind for ${duration(keysLagMs)}`
  return <Badge tone={tone}>{`${keysGiven}, ${state}`}</Badge>
}

const regionName = (regions: readonly SharedRegion[], id: number): string =>
  regions.find(({ regionId }) => regionId === id)?.name ?? `region ${id}`

function Keys({
  keys,
  regions,
  onAsk,
}: {
  readonly keys: readonly AccessKey[]
  readonly regions: readonly SharedRegion[]
  readonly onAsk: (key: AccessKey) => void
}) {
  return (
    <Card title="Access keys" flush>
      <Table<AccessKey>
        label="Access keys"
        rows={keys}
        id={({ accessKeyId }) => accessKeyId}
        empty={
          <p>
            Only the root key exists, and it is no other region’s business. <a href="#/keys">Make a key</a> of
            another account to share it.
          </p>
        }
        columns={[
          { title: 'Access key', cell: ({ accessKeyId }) => <code>{accessKeyId}</code> },
          { title: 'Name', cell: ({ name }) => <span class="name">{name || '–'}</span> },
          { title: 'Account', cell: ({ account }) => account },
          {
            title: 'Made in',
            cell: ({ homeRegion }) => (homeRegion < 0 ? 'this region' : regionName(regions, homeRegion)),
          },
          {
            title: 'Also good in',
            cell: ({ account, homeRegion, regions: also }) =>
              homeRegion >= 0
                ? 'its own region tells'
                : account === 'root'
                  ? 'none: keys of the root account stay here'
                  : also.map((id) => regionName(regions, id)).join(', ') || 'no other region',
          },
          {
            title: '',
            cell: (key) =>
              key.homeRegion >= 0 || key.account === 'root' ? null : (
                <button
                  type="button"
                  class="plain"
                  aria-label={`Share ${key.name || key.accessKeyId}`}
                  onClick={() => onAsk(key)}
                >
                  Share
                </button>
              ),
          },
        ]}
      />
    </Card>
  )
}

const offerTones: Readonly<Record<PublicationStatus['state'], Tone>> = {
  accepted: 'good',
  refused: 'bad',
  pending: 'accent',
  unreachable: 'warn',
}

function Offered({
  publications,
  policies,
  regions,
  onOffer,
  onWithdraw,
}: {
  readonly publications: readonly PublicationStatus[]
  readonly policies: PolicyList
  readonly regions: readonly SharedRegion[]
  readonly onOffer: () => void
  readonly onWithdraw: (name: string) => void
}) {
  return (
    <Card
      title="Policies that are offered"
      flush
      actions={
        <button type="button" disabled={policies.packages.every(({ builtin }) => builtin)} onClick={onOffer}>
          Offer a policy
        </button>
      }
    >
      <Table
        label="Policies that are offered"
        rows={publications}
        id={({ name, regionId }) => `${name} ${regionId}`}
        empty={<p>No policy is offered to other regions.</p>}
        columns={[
          { title: 'Policy', cell: ({ name }) => <span class="name">{name}</span> },
          { title: 'Digest', cell: ({ digest: hex }) => <code>{digest(hex)}</code> },
          { title: 'Region', cell: ({ regionId }) => regionName(regions, regionId) },
          { title: 'State', cell: ({ state }) => <Badge tone={offerTones[state]}>{state}</Badge> },
          {
            title: 'Serves there',
            cell: ({ serves }) =>
              serves.map((one) => `${digest(one.digest)}, ${one.percent} %`).join('; ') || '–',
          },
          { title: 'Why', cell: ({ reason }) => reason || '–' },
          {
            title: '',
            cell: ({ name, regionId }) => (
              <button
                type="button"
                class="plain risky"
                aria-label={`Withdraw ${name} from ${regionName(regions, regionId)} and all others`}
                onClick={() => onWithdraw(name)}
              >
                Withdraw
              </button>
            ),
          },
        ]}
      />
    </Card>
  )
}
