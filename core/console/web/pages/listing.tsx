import type { ComponentChildren, RefObject } from 'preact'
import { useCallback, useState } from 'preact/hooks'
import { count } from '../text.ts'

/** Rows of a page: what a person looks through, and what the browser shows at once, however many there are. */
export const pageRows = 200

/** Where the pages before this one, and this one, begin; the first begins with undefined. */
export interface Pages<Start> {
  readonly start: Start | undefined
  /** From 0. */
  readonly number: number
  readonly next: (start: Start) => void
  readonly back: () => void
}

/** A listing page by page: of the pages before only where they begin is kept. `key` changes with what is listed. */
export function usePages<Start>(key: string): Pages<Start> {
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

export interface PageOf<Entry> {
  readonly rows: readonly Entry[]
  readonly hasMore: boolean
}

/** One page of a listing. `isBefore`: what the listing begins with and was on the page before. */
export async function readPage<Entry>(
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
export function Pager<Start>({
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
