import type { Versioning } from '../../../../sdk/index.ts'
import { objects } from '../node.ts'
import { type Close, Question } from '../parts/question.tsx'

export const versioningText: Readonly<Record<Versioning, string>> = {
  off: 'no versions',
  enabled: 'keeps versions',
  suspended: 'versions are suspended',
}

/** The switch of a bucket: on, or suspended; once on, what is kept is kept. */
export function SetVersioning({
  bucket,
  versioning,
  onClose,
}: {
  readonly bucket: string
  readonly versioning: Versioning
  readonly onClose: Close
}) {
  const isOn = versioning === 'enabled'
  return (
    <Question
      title={isOn ? `Suspend versions of ${bucket}?` : `Keep versions in ${bucket}?`}
      action={isOn ? 'Suspend' : 'Keep versions'}
      risky={isOn}
      work={async () => {
        await objects.setVersioning(bucket, isOn ? 'suspended' : 'enabled')
        return isOn ? 'New versions are no longer kept.' : 'From now on every version is kept.'
      }}
      onClose={onClose}
    >
      <p>
        {isOn
          ? 'Versions that are there stay. What is written or deleted from now on takes the place of the version that is called “null”, for good.'
          : 'From now on nothing is overwritten or deleted for good: what was there before stays as an older version, and takes space until it is deleted. It can be suspended, not undone.'}
      </p>
    </Question>
  )
}
