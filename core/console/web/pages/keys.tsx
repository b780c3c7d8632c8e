import { useState } from 'preact/hooks'
import type { AccessKey } from '../../../../sdk/admin/index.ts'
import { admin } from '../node.ts'
import { Badge, Failure, Head, TableCard } from '../parts/frame.tsx'
import { Icon } from '../parts/icons.tsx'
import { type Close, Dialog, Question } from '../parts/question.tsx'
import { useAction, usePoll } from '../poll.ts'
import { moment, plural } from '../text.ts'

export function Keys() {
  const [isMaking, setIsMaking] = useState(false)
  const [made, setMade] = useState<MadeKey | undefined>(undefined)
  const { value, error, refresh } = usePoll(async (signal) => admin.keys.list({ signal }), 5000)
  const change = useAction()
  return (
    <>
      <Head
        title="Access keys"
        about={value === undefined ? undefined : `${plural(value.length, 'key')} beside the root key`}
      >
        <button type="button" class="main" onClick={() => setIsMaking(true)}>
          New key
        </button>
      </Head>
      <div class="stack">
        <Failure text={change.error} />
        <TableCard<AccessKey>
          error={error}
          label="Access keys"
          rows={value}
          id={({ accessKeyId }) => accessKeyId}
          empty={
            <>
              <Icon name="keys" size={34} />
              <p>Only the root key exists. Applications and people should have keys of their own.</p>
            </>
          }
          columns={[
            { title: 'Access key', cell: ({ accessKeyId }) => <code>{accessKeyId}</code> },
            { title: 'Name', cell: ({ name }) => <span class="name">{name || '–'}</span> },
            { title: 'Account', cell: ({ account }) => account },
            {
              title: 'State',
              cell: ({ enabled }) => (
                <Badge tone={enabled ? 'good' : 'plain'}>{enabled ? 'enabled' : 'disabled'}</Badge>
              ),
            },
            {
              title: 'Made',
              oneLine: true,
              cell: ({ createdMs, homeRegion }) =>
                homeRegion < 0 ? moment(createdMs) : `${moment(createdMs)}, in region ${homeRegion}`,
            },
            {
              title: '',
              cell: ({ accessKeyId, enabled, homeRegion }) =>
                // It is disabled where it was made, or all of that region's are refused.
                homeRegion >= 0 ? null : (
                  <button
                    type="button"
                    class={enabled ? 'plain risky' : 'plain'}
                    disabled={change.busy}
                    aria-label={`${enabled ? 'Disable' : 'Enable'} ${accessKeyId}`}
                    onClick={() =>
                      change.run(async () => {
                        await admin.keys.setEnabled(accessKeyId, !enabled)
                        refresh()
                      })
                    }
                  >
                    {enabled ? 'Disable' : 'Enable'}
                  </button>
                ),
            },
          ]}
        />
      </div>
      {isMaking && (
        <NewKey
          onClose={(done) => {
            setIsMaking(false)
            setMade(done)
            refresh()
          }}
        />
      )}
      {made !== undefined && <ShowKey made={made} onClose={() => setMade(undefined)} />}
    </>
  )
}

interface MadeKey {
  readonly id: string
  readonly secret: string
}

function NewKey({ onClose }: { readonly onClose: Close<MadeKey> }) {
  const [name, setName] = useState('')
  const [account, setAccount] = useState('')
  return (
    <Question<MadeKey>
      title="New access key"
      action="Make it"
      work={async () => {
        const { key, secretAccessKey } = await admin.keys.create({ name, account })
        return { id: key.accessKeyId, secret: secretAccessKey }
      }}
      onClose={onClose}
    >
      <label>
        What it is for
        <input maxLength={64} value={name} onInput={(event) => setName(event.currentTarget.value)} />
      </label>
      <label>
        Account
        <input
          maxLength={64}
          placeholder="root"
          value={account}
          onInput={(event) => setAccount(event.currentTarget.value)}
        />
        <span class="hint">
          Owns the buckets that are made with the key, and sees them here, too. An account exists as soon as
          it has a key.
        </span>
      </label>
    </Question>
  )
}

function ShowKey({ made, onClose }: { readonly made: MadeKey; readonly onClose: () => void }) {
  return (
    <Dialog title="The key, this once" onClose={onClose}>
      <form method="dialog">
        <dl class="facts">
          <dt>Access key</dt>
          <dd class="mono">{made.id}</dd>
          <dt>Secret key</dt>
          <dd class="mono">{made.secret}</dd>
        </dl>
        <p class="notice">Nobody can be shown the secret again: keep it now.</p>
        <div class="buttons">
          <button type="submit" class="main">
            I have it
          </button>
        </div>
      </form>
    </Dialog>
  )
}
