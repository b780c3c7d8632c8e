import type { ComponentChildren, RefObject } from 'preact'
import { useCallback, useRef, useState } from 'preact/hooks'
import type { Versioning } from '../../../../sdk/index.ts'
import { type Column, TableCard } from '../parts/frame.tsx'
import { Icon } from '../parts/icons.tsx'
import type { Close } from '../parts/question.tsx'
import { usePoll } from '../poll.ts'
import { count } from '../text.ts'
import { hrefOf, nameIn, type View } from './object-paths.ts'

/** Rows of a page: what a person looks through, and what the browser shows at once, however many there are. */
const pageRows = 200

export interface FolderProps {
  readonly bucket: string
  readonly folder: string
  /** Only names that begin with it. */
  readonly beginning: string
  readonly versioning: Versioning | undefined
  /** Grows when what is shown has changed from elsewhere in the page. */
  readonly round: number
  /** Tells what was done. */
  readonly onDone: (text: string) => void
}

interface FolderEntry {
  readonly type: 'prefix'
  readonly prefix: string
}

/** What listings of the SDK are made of beside folders. */
interface KeyEntry {
  readonly type: string
  readonly key: string
}

/** A question of one row, until it is answered. */
export type Ask = (
  question: (props: {
    readonly top: RefObject<HTMLElement | null>
    readonly onClose: Close
  }) => ComponentChildren,
) => void

interface Listed {
  readonly prefix: string
  readonly delimiter: string
  readonly pageSize: number
  readonly signal: AbortSignal
}

const nameOf = <Entry extends KeyEntry>(entry: Entry | FolderEntry): string =>
  isFolder(entry) ? entry.prefix : entry.key
const isFolder = (entry: KeyEntry | FolderEntry): entry is FolderEntry => entry.type === 'prefix'

/** What is in a folder, page by page: folders lead on, and of all else who asks says what is told and can be done. */
export function FolderTable<Entry extends KeyEntry>({
  bucket,
  folder,
  beginning,
  round,
  onDone,
  title,
  view,
  read,
  id,
  empty,
  nameTitle,
  under,
  columns,
  tools,
}: Omit<FolderProps, 'versioning'> & {
  /** What there is in the folder, for its name. */
  readonly title: string
  readonly view: View
  /** A listing behind `after`, which is an entry of the one before. */
  readonly read: (
    listed: Listed,
    after: Entry | FolderEntry | undefined,
  ) => AsyncIterable<Entry | FolderEntry>
  readonly id: (entry: Entry) => string
  readonly empty: ComponentChildren
  readonly nameTitle: string
  /** Below the name. */
  readonly under?: (entry: Entry) => ComponentChildren
  readonly columns: readonly Column<Entry>[]
  readonly tools: (entry: Entry, ask: Ask) => ComponentChildren
}) {
  const [question, setQuestion] = useState<{ readonly show: Parameters<Ask>[0] } | undefined>(undefined)
  const top = useRef<HTMLDivElement>(null)
  const what = `${bucket}/${folder}${beginning}`
  const pages = usePages<Entry | FolderEntry>(what)
  const { start } = pages
  const { value, error, refresh } = usePoll(
    async (signal) =>
      readPage(
        read({ prefix: `${folder}${beginning}`, delimiter: '/', pageSize: pageRows + 2, signal }, start),
        // A folder goes on behind its own name.
        (entry) => isFolder(entry) && start !== undefined && nameOf(entry) === nameOf(start),
      ),
    10_000,
    `${what}\n${JSON.stringify(start ?? '')}\n${round}`,
  )
  const close = (done?: string): void => {
    setQuestion(undefined)
    if (done === undefined) return
    onDone(done)
    refresh()
  }
  const ask: Ask = (show) => setQuestion({ show })
  return (
    <>
      <div class="stack" ref={top} tabIndex={-1}>
        <TableCard<Entry | FolderEntry>
          label={`${title} in ${bucket}/${folder}`}
          rows={value?.rows}
          error={error}
          id={(entry) => (isFolder(entry) ? `folder ${entry.prefix}` : `${entry.type} ${id(entry)}`)}
          empty={beginning === '' ? empty : <p>No name here begins with “{beginning}”.</p>}
          columns={[
            {
              title: nameTitle,
              cell: (entry) =>
                isFolder(entry) ? (
                  <a class="name folder" href={hrefOf(bucket, entry.prefix, view)}>
                    <Icon name="folder" size={17} />
                    {nameIn(folder, entry.prefix)}
                  </a>
                ) : (
                  <>
                    <span class="name clamped" title={entry.key}>
                      {nameIn(folder, entry.key)}
                    </span>
                    {under?.(entry)}
                  </>
                ),
            },
            ...columns.map(({ cell, ...column }) => ({
              ...column,
              cell: (entry: Entry | FolderEntry) => (isFolder(entry) ? '' : cell(entry)),
            })),
            { title: '', cell: (entry) => (isFolder(entry) ? null : tools(entry, ask)) },
          ]}
        >
          <Pager
            pages={pages}
            shown={value?.rows.length}
            nextStart={value?.hasMore === true ? value.rows.at(-1) : undefined}
            top={top}
          />
        </TableCard>
      </div>
      {question?.show({ top, onClose: close })}
    </>
  )
}

/** Where the pages before this one, and this one, begin; the first begins with undefined. */
interface Pages<Start> {
  readonly start: Start | undefined
  /** From 0. */
  readonly number: number
  readonly next: (start: Start) => void
  readonly back: () => void
}

/** A listing page by page: of the pages before only where they begin is kept. `key` changes with what is listed. */
function usePages<Start>(key: string): Pages<Start> {
  const [state, setState] = useState<{ readonly key: string; readonly starts: readonly Start[] }>({
    key,
    starts: [],
  })
  const starts = state.key === key ? state.starts : []
  const next = useCallback(
    (start: Start) =>
      setState((before) => ({ key, starts: [...(before.key === key ? before.starts : []), start] })),
    [key],
  )
  const back = useCallback(
    () => setState((before) => ({ key, starts: before.key === key ? before.starts.slice(0, -1) : [] })),
    [key],
  )
  return { start: starts.at(-1), number: starts.length, next, back }
}

interface PageOf<Entry> {
  readonly rows: readonly Entry[]
  readonly hasMore: boolean
}

/** One page of a listing. `isBefore`: what the listing begins with and was on the page before. */
async function readPage<Entry>(
  entries: AsyncIterable<Entry>,
  isBefore: (entry: Entry) => boolean,
): Promise<PageOf<Entry>> {
  const rows: Entry[] = []
  for await (const entry of entries) {
    if (isBefore(entry)) continue
    if (rows.length === pageRows) return { rows, hasMore: true }
    rows.push(entry)
  }
  return { rows, hasMore: false }
}

/** Which rows are shown, and the ways to the others; nothing when all of them fit on a page. */
function Pager<Start>({
  pages,
  shown,
  nextStart,
  top,
}: {
  readonly pages: Pages<Start>
  /** Rows; undefined: it is being read. */
  readonly shown: number | undefined
  /** undefined: this is the last page. */
  readonly nextStart: Start | undefined
  /** Takes the focus with a new page: the buttons are behind it. */
  readonly top: RefObject<HTMLElement | null>
}): ComponentChildren {
  if (pages.number === 0 && nextStart === undefined) return null
  const first = pages.number * pageRows + 1
  const go = (move: () => void): void => {
    move()
    top.current?.focus()
  }
  return (
    <nav class="pager" aria-label="Pages of the listing">
      <button type="button" disabled={pages.number === 0} onClick={() => go(pages.back)}>
        Previous
      </button>
      <span role="status" class="muted number">
        {shown === undefined
          ? 'Loading…'
          : shown === 0
            ? 'Nothing more'
            : `Rows ${count(first)} to ${count(first + shown - 1)}`}
      </span>
      <button
        type="button"
        disabled={nextStart === undefined}
        onClick={() => nextStart !== undefined && go(() => pages.next(nextStart))}
      >
        Next
      </button>
    </nav>
  )
}
