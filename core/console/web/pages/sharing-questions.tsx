import { useState } from 'preact/hooks'
import type { Acceptance, AccessKey, PolicyList, SharedRegion } from '../../../../sdk/admin/index.ts'
import { admin } from '../node.ts'
import { Check, type Close, ConfigField, Question } from '../parts/question.tsx'
import { digest } from '../text.ts'

/** Which regions: those that are joined, and those that are named already and left since. */
function RegionChoice({
  legend,
  regions,
  chosen,
  onChange,
}: {
  readonly legend: string
  readonly regions: readonly SharedRegion[]
  readonly chosen: readonly number[]
  readonly onChange: (chosen: readonly number[]) => void
}) {
  const gone = chosen.filter((id) => !regions.some(({ regionId }) => regionId === id))
  const all = [
    ...regions.map(({ regionId, name }) => ({ id: regionId, text: `${name} (${regionId})` })),
    ...gone.map((id) => ({ id, text: `region ${id}, not joined any more` })),
  ]
  return (
    <fieldset class="checks">
      <legend>{legend}</legend>
      {all.map(({ id, text }) => (
        <Check
          key={id}
          checked={chosen.includes(id)}
          onChange={(checked) => onChange(checked ? [...chosen, id] : chosen.filter((each) => each !== id))}
        >
          {text}
        </Check>
      ))}
    </fieldset>
  )
}

const meanings: Readonly<Record<Acceptance, string>> = {
  keys: 'Access keys: who has one of that region, for this one, gets in here as ACCOUNT~REGION',
  policies: 'Policies: what that region offers is checked here, and then serves here',
}

export function AcceptFrom({ region, onClose }: { readonly region: SharedRegion; readonly onClose: Close }) {
  const { regionId, name, accepts, keysTaken } = region
  const [chosen, setChosen] = useState(accepts)
  const givesUpKeys = accepts.includes('keys') && !chosen.includes('keys')
  return (
    <Question
      title={`What is taken of ${name}?`}
      action={givesUpKeys ? 'Give its keys up' : 'Take this'}
      risky={givesUpKeys}
      work={async () => {
        await admin.sharing.accept(regionId, chosen)
        return `Of ${name} ${chosen.length === 0 ? 'nothing is' : `${chosen.join(' and ')} are`} taken.`
      }}
      onClose={onClose}
    >
      <fieldset class="checks">
        <legend>From now on</legend>
        {(['keys', 'policies'] as const).map((each) => (
          <Check
            key={each}
            checked={chosen.includes(each)}
            onChange={(checked) =>
              setChosen(checked ? [...chosen, each] : chosen.filter((other) => other !== each))
            }
          >
            {meanings[each]}
          </Check>
        ))}
      </fieldset>
      {givesUpKeys && (
        <p class="notice">
          Its keys that are known here ({keysTaken}) end at once, with what is done with them.
        </p>
      )}
    </Question>
  )
}

export function ShareKey({
  accessKey,
  regions,
  onClose,
}: {
  readonly accessKey: AccessKey
  readonly regions: readonly SharedRegion[]
  readonly onClose: Close
}) {
  const { accessKeyId, account } = accessKey
  const name = accessKey.name || accessKeyId
  const [chosen, setChosen] = useState(accessKey.regions)
  return (
    <Question
      title={`Where is ${name} good?`}
      action="Save"
      work={async () => {
        await admin.sharing.shareKey(accessKeyId, chosen)
        return chosen.length === 0
          ? `${name} is good in this region only.`
          : `${name} is offered to region ${chosen.join(', ')}.`
      }}
      onClose={onClose}
    >
      <RegionChoice
        legend={`In this region as ${account}, and in`}
        regions={regions}
        chosen={chosen}
        onChange={setChosen}
      />
      <p class="muted">
        A region has it if it takes keys of this one. Taken off the list, or disabled, it ends there within a
        second of the next connection.
      </p>
    </Question>
  )
}

export function OfferPolicy({
  policies,
  regions,
  onClose,
}: {
  readonly policies: PolicyList
  readonly regions: readonly SharedRegion[]
  readonly onClose: Close
}) {
  const packages = policies.packages.filter(({ builtin }) => !builtin)
  const [hex, setHex] = useState(packages[0]?.digest ?? '')
  const [config, setConfig] = useState('{}')
  const [activate, setActivate] = useState(true)
  const [chosen, setChosen] = useState<readonly number[]>(regions.map(({ regionId }) => regionId))
  const found = packages.find((each) => each.digest === hex)
  return (
    <Question
      title="Offer a policy to other regions"
      action="Offer"
      ready={found !== undefined && chosen.length > 0}
      work={async () => {
        const name = found?.name ?? ''
        await admin.sharing.publish({ name, digest: hex, config, activate, regions: chosen })
        return `${name} is offered; what becomes of it is told below.`
      }}
      onClose={onClose}
    >
      <label>
        Package
        <select value={hex} onChange={(event) => setHex(event.currentTarget.value)}>
          {packages.map(({ digest: each, name, version }) => (
            <option key={each} value={each}>
              {`${name} ${version} (${digest(each)})`}
            </option>
          ))}
        </select>
      </label>
      <ConfigField value={config} onChange={setConfig} />
      <RegionChoice legend="Regions" regions={regions} chosen={chosen} onChange={setChosen} />
      <Check checked={activate} onChange={setActivate}>
        It is to serve there; otherwise it is only pushed
      </Check>
      <p class="muted">
        Each region checks it by its own rules, and takes it if its operator accepts policies of this one. A
        later offer of the same name takes the place of this one.
      </p>
    </Question>
  )
}

export function WithdrawPolicy({ name, onClose }: { readonly name: string; readonly onClose: Close }) {
  return (
    <Question
      title={`Withdraw ${name}?`}
      action="Withdraw"
      risky
      work={async () => {
        await admin.sharing.withdraw(name)
        return `${name} is offered no more.`
      }}
      onClose={onClose}
    >
      <p>It is offered to other regions no more. Where it was taken it stays, and is rolled back there.</p>
    </Question>
  )
}
