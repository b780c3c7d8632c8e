import { useState } from 'preact/hooks'
import type { PageProps } from '../app.tsx'
import { objects } from '../node.ts'
import { Card, Failure, Head, Table } from '../parts/frame.tsx'
import { Icon } from '../parts/icons.tsx'
import { usePoll } from '../poll.ts'
import { moment, plural } from '../text.ts'
import { CreateBucket, DeleteBucket } from './buckets.tsx'

type Asked = { readonly what: 'create' } | { readonly what: 'delete'; readonly name: string }

/** What S3 tells the key of buckets: those of its account. Others that it may use are opened by name. */
export function OwnBuckets({ session }: PageProps) {
  const [asked, setAsked] = useState<Asked | undefined>(undefined)
  const { value, error, refresh } = usePoll(async (signal) => objects.listBuckets({ signal }), 10_000)
  const close = (): void => {
    setAsked(undefined)
    refresh()
  }
  return (
    <>
      <Head
        title="Buckets"
        about={value === undefined ? undefined : `${plural(value.length, 'bucket')} of ${session.account}`}
      >
        <button type="button" class="main" onClick={() => setAsked({ what: 'create' })}>
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
                  <p>This account has no bucket yet. Everything begins with one.</p>
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
                { title: 'Made', oneLine: true, cell: ({ createdAt }) => moment(createdAt.getTime()) },
                {
                  title: '',
                  cell: ({ name }) => (
                    <button
                      type="button"
                      class="plain risky"
                      aria-label={`Delete ${name}`}
                      onClick={() => setAsked({ what: 'delete', name })}
                    >
                      Delete
                    </button>
                  ),
                },
              ]}
            />
          </Card>
        )}
        <OpenOther />
      </div>
      {asked?.what === 'create' && (
        <CreateBucket onClose={close} onCreate={(name) => objects.createBucket(name)} />
      )}
      {asked?.what === 'delete' && (
        <DeleteBucket name={asked.name} onClose={close} onDelete={(name) => objects.deleteBucket(name)} />
      )}
    </>
  )
}

/** S3 lists no buckets of others, also where their policies let this key in. */
function OpenOther() {
  const [name, setName] = useState('')
  return (
    <Card title="A bucket of another account">
      <form
        class="row"
        onSubmit={(event) => {
          event.preventDefault()
          location.hash = `#/buckets/${encodeURIComponent(name.trim())}`
        }}
      >
        <label>
          Name of the bucket
          <input
            required
            minLength={3}
            maxLength={63}
            spellcheck={false}
            autocapitalize="off"
            value={name}
            onInput={(event) => setName(event.currentTarget.value)}
          />
          <span class="hint">It opens if its owner has given this account a right to it.</span>
        </label>
        <button type="submit">Open</button>
      </form>
    </Card>
  )
}
