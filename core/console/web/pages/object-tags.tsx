import { useEffect, useRef, useState } from 'preact/hooks'
import { objects } from '../node.ts'
import { Failure } from '../parts/frame.tsx'
import { type Close, Question } from '../parts/question.tsx'
import { useAction } from '../poll.ts'
import { plural } from '../text.ts'

/** S3's rules for tags of objects; the node checks them again. */
const mostTags = 10
const mostNameLength = 128
const mostValueLength = 256
const allowed = '[\\p{L}\\p{Z}\\p{N}_.:\\/=+\\-@]*'
const allowedText = 'Letters, digits, spaces and + - = . _ : / @'

type TagSet = Readonly<Record<string, string>>

/** As it is typed: two may have the same name until they are saved. */
interface Tag {
  readonly id: number
  readonly name: string
  readonly value: string
}

const tagsOf = (set: TagSet): readonly Tag[] =>
  Object.entries(set).map(([name, value], id) => ({ id, name, value }))

const isSame = (one: TagSet, other: TagSet): boolean => {
  const names = Object.keys(one)
  return names.length === Object.keys(other).length && names.every((name) => one[name] === other[name])
}

/** Throws what a person is told. */
function setOf(tags: readonly Tag[]): TagSet {
  const names = tags.map(({ name }) => name)
  const twice = names.find((name, index) => names.indexOf(name) !== index)
  if (twice !== undefined) throw new Error(`Two tags are called “${twice}”.`)
  return Object.fromEntries(tags.map(({ name, value }) => [name, value]))
}

/** The tags of an object, or of one of its versions: shown, and changed all at once. */
export function ObjectTags({
  bucket,
  name,
  versionId,
  onClose,
}: {
  readonly bucket: string
  readonly name: string
  readonly versionId?: string
  readonly onClose: Close
}) {
  const [before, setBefore] = useState<TagSet | undefined>(undefined)
  const [tags, setTags] = useState<readonly Tag[]>([])
  const { error, run } = useAction()
  const options = versionId === undefined ? {} : { versionId }
  useEffect(() => {
    run(async () => {
      const found = await objects.getTags(bucket, name, options)
      setBefore(found)
      setTags(tagsOf(found))
    })
    // The question is of one object from its first moment to its last.
  }, [])
  return (
    <Question
      title="Tags of this object"
      action="Save"
      busyAction="Saving…"
      ready={before !== undefined}
      work={async () => {
        const after = setOf(tags)
        // All tags are replaced at once: what somebody else has set since would be lost without a word.
        if (!isSame(await objects.getTags(bucket, name, options), before ?? {}))
          throw new Error('Somebody has changed the tags meanwhile. Close this and look again.')
        await objects.setTags(bucket, name, after, options)
        return tags.length === 0 ? 'It has no tags now.' : `It has ${plural(tags.length, 'tag')} now.`
      }}
      onClose={onClose}
    >
      <p class="mono long">{name}</p>
      {versionId !== undefined && <p class="muted">{`Version ${versionId}`}</p>}
      <Failure text={error} />
      {before === undefined ? (
        error === undefined && <p aria-live="polite">Loading…</p>
      ) : (
        <TagFields tags={tags} onChange={setTags} />
      )}
    </Question>
  )
}

function TagFields({
  tags,
  onChange,
}: {
  readonly tags: readonly Tag[]
  readonly onChange: (tags: readonly Tag[]) => void
}) {
  const add = useRef<HTMLButtonElement>(null)
  const newest = useRef<number | undefined>(undefined)
  const change = (id: number, to: Partial<Tag>): void =>
    onChange(tags.map((tag) => (tag.id === id ? { ...tag, ...to } : tag)))
  return (
    <fieldset class="tags">
      <legend>
        {tags.length === 0 ? 'No tags' : `${plural(tags.length, 'tag')} of at most ${mostTags}`}
      </legend>
      {tags.map(({ id, name, value }, index) => (
        <div class="tag" key={id}>
          <input
            aria-label={`Name of tag ${index + 1}`}
            placeholder="Name"
            required
            maxLength={mostNameLength}
            pattern={allowed}
            title={allowedText}
            spellcheck={false}
            value={name}
            ref={(input) => {
              if (input === null || newest.current !== id) return
              newest.current = undefined
              input.focus()
            }}
            onInput={(event) => change(id, { name: event.currentTarget.value })}
          />
          <input
            aria-label={`Value of tag ${index + 1}`}
            placeholder="Value"
            maxLength={mostValueLength}
            pattern={allowed}
            title={allowedText}
            spellcheck={false}
            value={value}
            onInput={(event) => change(id, { value: event.currentTarget.value })}
          />
          <button
            type="button"
            class="plain risky"
            aria-label={`Remove tag ${index + 1}${name === '' ? '' : `, ${name}`}`}
            onClick={() => {
              // The row is gone with its button.
              add.current?.focus()
              onChange(tags.filter((tag) => tag.id !== id))
            }}
          >
            Remove
          </button>
        </div>
      ))}
      <div>
        <button
          type="button"
          ref={add}
          // Not `disabled`, which would lose the focus with the tenth.
          aria-disabled={tags.length >= mostTags}
          onClick={() => {
            if (tags.length >= mostTags) return
            const id = Math.max(-1, ...tags.map((tag) => tag.id)) + 1
            newest.current = id
            onChange([...tags, { id, name: '', value: '' }])
          }}
        >
          Add a tag
        </button>
      </div>
      <p class="hint muted">{allowedText}</p>
    </fieldset>
  )
}
