import { useState } from 'preact/hooks'
import { admin } from '../node.ts'
import { Check, type Close, ConfigField, Question } from '../parts/question.tsx'
import { digest } from '../text.ts'

export function ActivatePolicy({
  name,
  digest: hex,
  onClose,
}: {
  readonly name: string
  readonly digest: string
  readonly onClose: Close
}) {
  const [config, setConfig] = useState('{}')
  const [gradual, setGradual] = useState(true)
  const [canary, setCanary] = useState(10)
  return (
    <Question
      title={`Activate ${name}`}
      action="Activate"
      work={async () => {
        const steps = {
          shadowCalls: 1000,
          canaryPercent: canary,
          canaryCalls: 5000,
          stepTimeoutMs: 600_000,
        }
        await admin.policies.activate({ name, digest: hex, config, ...(gradual ? { gradual: steps } : {}) })
        return gradual ? `${name} is on its way: it sees requests in the shadow first.` : `${name} is active.`
      }}
      onClose={onClose}
    >
      <p class="muted">
        Package <code>{digest(hex)}</code>
      </p>
      <ConfigField value={config} onChange={setConfig} />
      <Check checked={gradual} onChange={setGradual}>
        Step by step: shadow, canary, then all; it is taken out by itself when it misbehaves
      </Check>
      {gradual && (
        <label>
          Canary, percent of requests
          <input
            type="number"
            required
            min={1}
            max={99}
            value={canary}
            onInput={(event) => setCanary(event.currentTarget.valueAsNumber)}
          />
        </label>
      )}
    </Question>
  )
}
