import { useState } from 'preact/hooks'
import { admin } from '../node.ts'
import { Dialog, Failure } from '../parts/frame.tsx'
import { useAction } from '../poll.ts'
import { digest } from '../text.ts'

export function ActivatePolicy({
  name,
  digest: hex,
  onClose,
}: {
  readonly name: string
  readonly digest: string
  readonly onClose: () => void
}) {
  const [config, setConfig] = useState('{}')
  const [gradual, setGradual] = useState(true)
  const [canary, setCanary] = useState(10)
  const { busy, error, run } = useAction()
  return (
    <Dialog title={`Activate ${name}`} onClose={onClose}>
      <form
        onSubmit={(event) => {
          event.preventDefault()
          run(async () => {
            await admin.policies.activate({
              ...{ name, digest: hex, config },
              ...(gradual
                ? {
                    gradual: {
                      shadowCalls: 1000,
                      canaryPercent: canary,
                      canaryCalls: 5000,
                      stepTimeoutMs: 600_000,
                    },
                  }
                : {}),
            })
            onClose()
          })
        }}
      >
        <p class="muted">
          Package <code>{digest(hex)}</code>
        </p>
        <label>
          Configuration (JSON)
          <textarea
            rows={3}
            spellcheck={false}
            class="mono"
            value={config}
            onInput={(event) => setConfig(event.currentTarget.value)}
          />
        </label>
        <label class="check">
          <input
            type="checkbox"
            checked={gradual}
            onChange={(event) => setGradual(event.currentTarget.checked)}
          />
          Step by step: shadow, canary, then all; it is taken out by itself when it misbehaves
        </label>
        {gradual && (
          <label>
            Canary, percent of requests
            <input
              type="number"
              min={1}
              max={99}
              value={canary}
              onInput={(event) => setCanary(event.currentTarget.valueAsNumber)}
            />
          </label>
        )}
        <Failure text={error} />
        <div class="buttons">
          <button type="button" onClick={onClose}>
            Cancel
          </button>
          <button type="submit" class="main" disabled={busy}>
            Activate
          </button>
        </div>
      </form>
    </Dialog>
  )
}
