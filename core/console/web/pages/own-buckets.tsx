import { useState } from 'preact/hooks'
import type { PageProps } from '../app.tsx'
import { objects } from '../node.ts'
import { Card } from '../parts/frame.tsx'
import { usePoll } from '../poll.ts'
import { moment, plural } from '../text.ts'
import { BucketList, BucketName } from './bucket-list.tsx'
import { hrefOf } from './object-paths.ts'

/** What S3 tells the key of buckets: those of its account. Others that it may use are opened by name. */
export function OwnBuckets({ session }: PageProps) {
  const buckets = usePoll(async (signal) => objects.listBuckets({ signal }), 10_000)
  const { value } = buckets
  return (
    <BucketList
      buckets={buckets}
      about={value === undefined ? undefined : `${plural(value.length, 'bucket')} of ${session.account}`}
      empty="This account has no bucket yet."
      columns={[{ title: 'Made', oneLine: true, cell: ({ createdAt }) => moment(createdAt.getTime()) }]}
      onCreate={(name) => objects.createBucket(name)}
      onDelete={(name) => objects.deleteBucket(name)}
    >
      <OpenOther />
    </BucketList>
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
          location.hash = hrefOf(name.trim(), '')
        }}
      >
        <BucketName
          title="Name of the bucket"
          hint="It opens if its owner has given this account a right to it."
          value={name}
          onChange={setName}
        />
        <button type="submit">Open</button>
      </form>
    </Card>
  )
}
