import { useState } from 'preact/hooks'
import { admin } from '../node.ts'
import { Badge } from '../parts/frame.tsx'
import { usePoll } from '../poll.ts'
import { bytes, count, moment, plural } from '../text.ts'
import { BucketList } from './bucket-list.tsx'

/** Those of all accounts. */
export function Buckets() {
  const [measured, setMeasured] = useState<Readonly<Record<string, string>>>({})
  const buckets = usePoll(async (signal) => Array.fromAsync(admin.buckets.list({ signal })), 5000)
  const measure = (name: string): void => {
    const say = (text: string): void => setMeasured((before) => ({ ...before, [name]: text }))
    say('counting…')
    admin.buckets.measure(name, { onProgress: ({ done }) => say(`${count(done)} objects so far…`) }).then(
      ({ objects, bytes: length }) => say(`${plural(objects, 'object')}, ${bytes(length)}`),
      () => say('could not be counted'),
    )
  }
  return (
    <BucketList
      buckets={buckets}
      about={buckets.value === undefined ? undefined : plural(buckets.value.length, 'bucket')}
      empty="No bucket yet."
      columns={[
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
      ]}
      onCreate={(name) => admin.buckets.create(name)}
      onDelete={(name) => admin.buckets.delete(name)}
    />
  )
}
