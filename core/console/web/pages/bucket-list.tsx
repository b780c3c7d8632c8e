import type { ComponentChildren } from 'preact'
import { useState } from 'preact/hooks'
import { type Column, Head, Said, TableCard } from '../parts/frame.tsx'
import { Icon } from '../parts/icons.tsx'
import { type Close, Question, useQuestion } from '../parts/question.tsx'
import type { Polled } from '../poll.ts'
import { useUploads } from '../uploads.ts'
import { hrefOf } from './object-paths.ts'
import { UploadList } from './upload-list.tsx'

interface Named {
  readonly name: string
}

type Asked = 'create' | Named

/** Buckets by name, and how one is made or deleted; who asks says of whom, and what else is told of each. */
export function BucketList<Bucket extends Named>({
  buckets: { value, error, refresh },
  about,
  empty,
  columns,
  onCreate,
  onDelete,
  children,
}: {
  readonly buckets: Polled<readonly Bucket[]>
  readonly about: string | undefined
  readonly empty: string
  /** Between the name and the tools. */
  readonly columns: readonly Column<Bucket>[]
  readonly onCreate: (name: string) => Promise<unknown>
  readonly onDelete: (name: string) => Promise<unknown>
  readonly children?: ComponentChildren
}) {
  const uploads = useUploads(refresh)
  const { asked, ask, close, said } = useQuestion<Asked>(refresh)
  return (
    <>
      <Head title="Buckets" about={about}>
        <button type="button" class="main" onClick={() => ask('create')}>
          New bucket
        </button>
      </Head>
      <div class="stack">
        <Said text={said} />
        <UploadList uploads={uploads} />
        <TableCard
          label="Buckets"
          rows={value}
          error={error}
          id={({ name }) => name}
          empty={
            <>
              <Icon name="buckets" size={34} />
              <p>{empty} Everything begins with one.</p>
            </>
          }
          columns={[
            {
              title: 'Name',
              cell: ({ name }) => (
                <a class="name" href={hrefOf(name, '')}>
                  {name}
                </a>
              ),
            },
            ...columns,
            {
              title: '',
              cell: ({ name }) => (
                <button
                  type="button"
                  class="plain risky"
                  aria-label={`Delete ${name}`}
                  onClick={() => ask({ name })}
                >
                  Delete
                </button>
              ),
            },
          ]}
        />
        {children}
      </div>
      {asked === 'create' && <CreateBucket onClose={close} onCreate={onCreate} />}
      {typeof asked === 'object' && <DeleteBucket name={asked.name} onClose={close} onDelete={onDelete} />}
    </>
  )
}

/** The name of a bucket, as it is typed. */
export function BucketName({
  title,
  hint,
  value,
  onChange,
}: {
  readonly title: string
  readonly hint: string
  readonly value: string
  readonly onChange: (value: string) => void
}) {
  return (
    <label>
      {title}
      <input
        required
        minLength={3}
        maxLength={63}
        spellcheck={false}
        autocapitalize="off"
        value={value}
        onInput={(event) => onChange(event.currentTarget.value)}
      />
      <span class="hint">{hint}</span>
    </label>
  )
}

function CreateBucket({
  onClose,
  onCreate,
}: {
  readonly onClose: Close
  readonly onCreate: (name: string) => Promise<unknown>
}) {
  const [name, setName] = useState('')
  return (
    <Question
      title="New bucket"
      action="Create"
      work={async () => {
        await onCreate(name)
        return `The bucket ${name} is made.`
      }}
      onClose={onClose}
    >
      <BucketName title="Name" hint="3 to 63 of a-z, 0-9, dots and hyphens" value={name} onChange={setName} />
    </Question>
  )
}

function DeleteBucket({
  name,
  onClose,
  onDelete,
}: {
  readonly name: string
  readonly onClose: Close
  readonly onDelete: (name: string) => Promise<unknown>
}) {
  return (
    <Question
      title={`Delete ${name}?`}
      action="Delete"
      risky
      work={async () => {
        await onDelete(name)
        return `The bucket ${name} is deleted.`
      }}
      onClose={onClose}
    >
      <p>Only an empty bucket can be deleted.</p>
    </Question>
  )
}
