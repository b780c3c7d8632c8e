import { useState } from 'preact/hooks'
import type {
  DeployedPolicy,
  DeployedVersion,
  PolicyList,
  PolicyStatus,
  PolicyVersion,
} from '../../../../sdk/admin/index.ts'
import { admin } from '../node.ts'
import { Badge, Bar, Card, Failure, Head, Said, Table, type Tone } from '../parts/frame.tsx'
import { Icon } from '../parts/icons.tsx'
import { type Close, Question, useQuestion } from '../parts/question.tsx'
import { usePoll } from '../poll.ts'
import { ago, bytes, count, digest, duration, moment, percent, plural } from '../text.ts'
import { ActivatePolicy } from './policy-activate.tsx'
import { Decisions } from './policy-decisions.tsx'

type Asked =
  /** `to` undefined: wherever one step back is. */
  | { readonly what: 'rollback'; readonly policy: DeployedPolicy; readonly to: DeployedVersion | undefined }
  | { readonly what: 'deactivate'; readonly policy: DeployedPolicy }
  | { readonly what: 'activate'; readonly name: string; readonly digest: string }
  | { readonly what: 'push' }

export function Policies() {
  const { value, error, refresh } = usePoll(async (signal) => {
    const [list, status] = await Promise.all([
      admin.policies.list({ signal }),
      admin.policies.status({ signal }),
    ])
    return { list, status }
  })
  const { asked, ask, close, said } = useQuestion<Asked>(refresh)
  return (
    <>
      <Head
        title="Policies"
        about={
          value === undefined
            ? undefined
            : `Epoch ${value.status.epoch}${value.status.deployedEpoch > value.status.epoch ? `, the region is at ${value.status.deployedEpoch}` : ''}; signatures are ${value.status.signatureRequired ? 'required' : 'not required'}`
        }
      >
        <button type="button" class="main" onClick={() => ask({ what: 'push' })}>
          Push a policy
        </button>
      </Head>
      <div class="stack">
        <Failure text={error} />
        <Said text={said} />
        {value === undefined && error === undefined && <p class="muted">Loading…</p>}
        {value !== undefined && (
          <>
            {value.status.unavailable !== '' && <p class="notice">{value.status.unavailable}</p>}
            {value.status.quarantine.map(({ digest: hex, reason, strikes, untilMs }) => (
              <p class="notice bad" key={hex}>
                In quarantine until {moment(untilMs)} (strike {strikes}): <code>{digest(hex)}</code>, {reason}
              </p>
            ))}
            {(value.list.deployment?.policies ?? []).map((policy) => (
              <Deployed
                key={policy.name}
                policy={policy}
                status={value.status}
                list={value.list}
                onAsk={ask}
              />
            ))}
            {(value.list.deployment?.policies ?? []).length === 0 && (
              <Card>
                <div class="empty">
                  <Icon name="policies" size={34} />
                  <p>No policy is deployed: the built-in rules decide.</p>
                </div>
              </Card>
            )}
            <Packages list={value.list} onAsk={ask} />
            <Decisions />
          </>
        )}
      </div>
      {asked?.what === 'rollback' && <Rollback policy={asked.policy} to={asked.to} onClose={close} />}
      {asked?.what === 'deactivate' && <Deactivate policy={asked.policy} onClose={close} />}
      {asked?.what === 'activate' && (
        <ActivatePolicy name={asked.name} digest={asked.digest} onClose={close} />
      )}
      {asked?.what === 'push' && <Push onClose={close} />}
    </>
  )
}

const versionName = (list: PolicyList, hex: string): string =>
  list.packages.find((each) => each.digest === hex)?.version ?? '?'

const stageOf = (
  { percent: share }: DeployedVersion,
  serving: PolicyVersion | undefined,
): { tone: Tone; text: string } => {
  if (serving?.failure != null) return { tone: 'bad', text: `not ${serving.failure.stage}` }
  if (share === 0) return { tone: 'plain', text: 'shadow' }
  return share === 100 ? { tone: 'good', text: 'active' } : { tone: 'accent', text: `canary, ${share} %` }
}

function Deployed({
  policy,
  status,
  list,
  onAsk,
}: {
  readonly policy: DeployedPolicy
  readonly status: PolicyStatus
  readonly list: PolicyList
  readonly onAsk: (asked: Asked) => void
}) {
  const servingOf = (version: DeployedVersion): PolicyVersion | undefined =>
    status.policies.find((each) => each.name === policy.name && each.digest === version.digest)
  const newest = policy.versions.at(-1)
  return (
    <Card
      flush
      title={policy.name}
      actions={
        <>
          <button
            type="button"
            aria-label={`Roll back ${policy.name}`}
            onClick={() => onAsk({ what: 'rollback', policy, to: undefined })}
          >
            Roll back
          </button>
          <button
            type="button"
            class="plain risky"
            aria-label={`Deactivate ${policy.name}`}
            onClick={() => onAsk({ what: 'deactivate', policy })}
          >
            Deactivate
          </button>
        </>
      }
    >
      <Table
        label={`Versions of ${policy.name}`}
        rows={policy.versions}
        id={({ digest: hex, config }) => `${hex}${config}`}
        columns={[
          { title: 'Version', cell: ({ digest: hex }) => <span class="name">{versionName(list, hex)}</span> },
          { title: 'Digest', cell: ({ digest: hex }) => <code>{digest(hex)}</code> },
          {
            title: 'Stage',
            cell: (version) => {
              const { tone, text } = stageOf(version, servingOf(version))
              return <Badge tone={tone}>{text}</Badge>
            },
          },
          {
            title: 'Share of requests',
            cell: ({ percent: share }) => (
              <Bar share={share / 100} label={`Share of requests, ${share} percent`} />
            ),
          },
          { title: 'Since', oneLine: true, cell: ({ sinceMs }) => ago(sinceMs) },
          { title: 'Calls', right: true, cell: (version) => callsOf(servingOf(version)) },
          { title: 'Failed', right: true, cell: (version) => failuresOf(servingOf(version)) },
          { title: '99 of 100 within', right: true, cell: (version) => slowestOf(servingOf(version)) },
          { title: 'Differed', right: true, cell: (version) => differedOf(servingOf(version)) },
        ]}
      />
      {newest !== undefined && servingOf(newest)?.failure != null && (
        <p class="notice bad">{servingOf(newest)?.failure?.reason}</p>
      )}
      {policy.history.length > 0 && (
        <details class="history">
          <summary>{plural(policy.history.length, 'version')} served before</summary>
          <ul>
            {policy.history.map((version) => (
              <li key={`${version.digest}${version.sinceMs}`}>
                {versionName(list, version.digest)} <code>{digest(version.digest)}</code>, from{' '}
                {moment(version.sinceMs)}{' '}
                <button
                  type="button"
                  class="plain"
                  onClick={() => onAsk({ what: 'rollback', policy, to: version })}
                >
                  Back to this one
                </button>
              </li>
            ))}
          </ul>
        </details>
      )}
    </Card>
  )
}

type Counters = PolicyVersion['counters'][string]
const sumOf = (serving: PolicyVersion | undefined, of: (counters: Counters) => number): number =>
  Object.values(serving?.counters ?? {}).reduce((sum, counters) => sum + of(counters), 0)

const callsOf = (serving: PolicyVersion | undefined): string => count(sumOf(serving, ({ calls }) => calls))
const failuresOf = (serving: PolicyVersion | undefined): string =>
  count(sumOf(serving, ({ traps, invalidOutputs, errors }) => traps + invalidOutputs + errors))
function slowestOf(serving: PolicyVersion | undefined): string {
  const most = Math.max(0, ...Object.values(serving?.counters ?? {}).map(({ p99Ns }) => p99Ns))
  return most === 0 ? '–' : most < 1e6 ? `${(most / 1000).toFixed(1)} µs` : duration(most / 1e6)
}
function differedOf(serving: PolicyVersion | undefined): string {
  const compared = sumOf(serving, (counters) => counters.compared)
  return compared === 0 ? '–' : percent(sumOf(serving, ({ differed }) => differed) / compared)
}

function Packages({ list, onAsk }: { readonly list: PolicyList; readonly onAsk: (asked: Asked) => void }) {
  return (
    <Card title="Packages of the region" flush>
      <Table
        label="Packages of the region"
        rows={list.packages}
        id={({ digest: hex }) => hex}
        empty={
          <p>
            None yet: <code>pando policy init NAME</code> makes one.
          </p>
        }
        columns={[
          { title: 'Policy', cell: ({ name }) => <span class="name">{name}</span> },
          { title: 'Version', cell: ({ version }) => version },
          { title: 'Digest', cell: ({ digest: hex }) => <code>{digest(hex)}</code> },
          { title: 'Size', right: true, cell: ({ byteLength }) => bytes(byteLength) },
          {
            title: 'Pushed',
            oneLine: true,
            cell: ({ pushedMs, builtin }) => (builtin ? 'built in' : moment(pushedMs)),
          },
          {
            title: 'Signed by',
            cell: ({ signedBy }) => (signedBy === '' ? '–' : <code>{digest(signedBy)}</code>),
          },
          {
            title: '',
            cell: ({ name, version, digest: hex }) => (
              <button
                type="button"
                class="plain"
                aria-label={`Activate ${name} ${version}`}
                onClick={() => onAsk({ what: 'activate', name, digest: hex })}
              >
                Activate
              </button>
            ),
          },
        ]}
      />
    </Card>
  )
}

function Rollback({
  policy,
  to,
  onClose,
}: {
  readonly policy: DeployedPolicy
  readonly to: DeployedVersion | undefined
  readonly onClose: Close
}) {
  const { name } = policy
  // What serves beside a canary or a shadow goes on alone: as without a digest on the command line.
  const target =
    to ?? policy.versions.slice(0, -1).find(({ percent: share }) => share > 0) ?? policy.history[0]
  return (
    <Question
      title={`Roll ${name} back?`}
      action="Roll back"
      risky
      work={async () => {
        await admin.policies.rollback(name, to?.digest ?? '')
        return target === undefined ? `${name} is taken out.` : `${name} is back at ${digest(target.digest)}.`
      }}
      onClose={onClose}
    >
      <dl class="facts">
        <dt>From</dt>
        <dd>
          <code>{digest(policy.versions.at(-1)?.digest ?? '')}</code>
        </dd>
        <dt>To</dt>
        <dd>
          {target === undefined ? (
            'nothing served before: the policy is taken out'
          ) : (
            <code>{digest(target.digest)}</code>
          )}
        </dd>
      </dl>
      <p>
        All nodes of the region switch at the same entry of the log; requests under way end as they began.
      </p>
    </Question>
  )
}

function Deactivate({
  policy: { name },
  onClose,
}: {
  readonly policy: DeployedPolicy
  readonly onClose: Close
}) {
  return (
    <Question
      title={`Deactivate ${name}?`}
      action="Deactivate"
      risky
      work={async () => {
        await admin.policies.deactivate(name)
        return `${name} is asked no more.`
      }}
      onClose={onClose}
    >
      <p>It is no longer asked; what comes after it in the chain decides. Its history stays.</p>
    </Question>
  )
}

function Push({ onClose }: { readonly onClose: Close }) {
  const [file, setFile] = useState<File | undefined>(undefined)
  return (
    <Question
      title="Push a policy"
      action="Push"
      busyAction="Testing…"
      work={async () => {
        if (file === undefined) throw new Error('Choose a file first.')
        const { digest: hex, warnings } = await admin.policies.push(new Uint8Array(await file.arrayBuffer()))
        return `Checked, tested and kept as ${digest(hex)}. ${warnings.join(' ')}`
      }}
      onClose={onClose}
    >
      <label>
        WASM module, at most 1 MiB
        <input
          type="file"
          accept=".wasm,application/wasm"
          required
          onChange={(event) => setFile(event.currentTarget.files?.[0])}
        />
        <span class="hint">
          It is verified, metered, loaded and run against its own test vectors. Nothing serves it until it is
          activated. Signed packages are pushed with <code>pando policy push</code>.
        </span>
      </label>
    </Question>
  )
}
