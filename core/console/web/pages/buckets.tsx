import { useState } from 'preact/hooks'
import type { Bucket } from '../../../../sdk/admin/index.ts'
import { admin } from '../node.ts'
import { Badge, Card, Dialog, Failure, Head, Table } from '../parts/frame.tsx'
import { Icon } from '../parts/icons.tsx'
import { useAction, usePoll } from '../poll.ts'
import { bytes, count, moment, plural } from '../text.ts'

export function Buckets() {
  const [asked, setAsked] = useState<'create' | Bucket | undefined>(undefined)
  const [measured, setMeasured] = useState<Readonly<Record<string, string>>>({})
  const { value, error, refresh } = usePoll(
    async (signal) => Array.fromAsync(admin.buckets.list({ signal })),
    5000,
  )
  const close = (): void => {
    setAsked(undefined)
    refresh()
  }
  const measure = (name: string): void => {
    const say = (text: string): void => setMeasured((before) => ({ ...before, [name]: text }))
    say('counting…')
    admin.buckets.measure(name, { onProgress: ({ done }) => say(`${count(done)} objects so far…`) }).then(
      ({ objects, bytes: length }) => say(`${plural(objects, 'object')}, ${bytes(length)}`),
      () => say('could not be counted'),
    )
  }
  return (
    <>
      <Head title="Buckets" about={value === undefined ? undefined : plural(value.length, 'bucket')}>
        <button type="button" class="main" onClick={() => setAsked('create')}>
          New bucket
        </button>
      </Head>
      <div class="stack">
        <Failure text={error} />
        {(value !== undefined || error === undefined) && (
          <Card flush>
            <Table
              label="Buckets"
              rows={value}
              id={({ name }) => name}
              empty={
                <>
                  <Icon name="buckets" size={34} />
                  <p>No bucket yet. Everything begins with one.</p>
                </>
              }
              columns={[
                {
                  title: 'Name',
                  cell: ({ name }) => (
                    <a class="name" href={`#/buckets/${encodeURIComponent(name)}`}>
                      {name}
                    </a>
                  ),
                },
                { title: 'Owner', cell: ({ owner }) => owner },
                {
                  title: 'Versions',
                  cell: ({ versioning }) => (
                    <Badge tone={versioning === 'enabled' ? 'good' : 'plain'}>{versioning}</Badge>
                  ),
                },
                { title: 'Made', oneLine: true, cell: ({ createdMs }) => moment(createdMs) },
                {
                  title: 'Content',
                  cell: ({ name }) => (
                    <span aria-live="polite">
                      {measured[name] ?? (
                        <button
                          type="button"
                          class="plain"
                          aria-label={`Count the objects of ${name}`}
                          onClick={() => measure(name)}
                        >
                          Count
                        </button>
                      )}
                    </span>
                  ),
                },
                {
                  title: '',
                  cell: (bucket) => (
                    <button
                      type="button"
                      class="plain risky"
                      aria-label={`Delete ${bucket.name}`}
                      onClick={() => setAsked(bucket)}
                    >
                      Delete
                    </button>
                  ),
                },
              ]}
            />
          </Card>
        )}
      </div>
      {asked === 'create' && (
        <CreateBucket onClose={close} onCreate={async (name) => void (await admin.buckets.create(name))} />
      )}
      {typeof asked === 'object' && (
        <DeleteBucket name={asked.name} onClose={close} onDelete={(name) => admin.buckets.delete(name)} />
      )}
    </>
  )
}

export function CreateBucket({
  onClose,
  onCreate,
}: {
  readonly onClose: () => void
  readonly onCreate: (name: string) => Promise<void>
}) {
  const [name, setName] = useState('')
  const { busy, error, run } = useAction()
  return (
    <Dialog title="New bucket" onClose={onClose}>
      <form
        onSubmit={(event) => {
          event.preventDefault()
          run(async () => {
            await onCreate(name)
            onClose()
          })
        }}
      >
        <label>
          Name
          <input
            required
            minLength={3}
            maxLength={63}
            spellcheck={false}
            value={name}
            onInput={(event) => setName(event.currentTarget.value)}
          />
          <span class="hint">3 to 63 of a-z, 0-9, dots and hyphens</span>
        </label>
        <Failure text={error} />
        <div class="buttons">
          <button type="button" onClick={onClose}>
            Cancel
          </button>
          <button type="submit" class="main" disabled={busy}>
            Create
          </button>
        </div>
      </form>
    </Dialog>
  )
}

export function DeleteBucket({
  name,
  onClose,
  onDelete,
}: {
  readonly name: string
  readonly onClose: () => void
  readonly onDelete: (name: string) => Promise<void>
}) {
  const { busy, error, run } = useAction()
  return (
    <Dialog title={`Delete ${name}?`} onClose={onClose}>
      <form
        onSubmit={(event) => {
          event.preventDefault()
          run(async () => {
            await onDelete(name)
            onClose()
          })
        }}
      >
        <p>Only an empty bucket can be deleted.</p>
        <Failure text={error} />
        <div class="buttons">
          <button type="button" onClick={onClose}>
            Cancel
          </button>
          <button type="submit" class="danger" disabled={busy}>
            Delete
          </button>
        </div>
      </form>
    </Dialog>
  )
}
