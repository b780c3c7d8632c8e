import type { ComponentChildren } from 'preact'
import { useEffect } from 'preact/hooks'

export type Tone = 'good' | 'warn' | 'bad' | 'accent' | 'plain'

export function Badge({ tone, children }: { readonly tone: Tone; readonly children: ComponentChildren }) {
  return <span class={tone === 'plain' ? 'badge' : `badge ${tone}`}>{children}</span>
}

export function Head({
  title,
  about,
  children,
}: {
  readonly title: string
  readonly about?: ComponentChildren
  readonly children?: ComponentChildren
}) {
  useEffect(() => {
    document.title = `${title} · Pando`
  }, [title])
  return (
    <div class="head">
      <div>
        <h1>{title}</h1>
        {about !== undefined && <p class="muted">{about}</p>}
      </div>
      {children !== undefined && <div class="actions">{children}</div>}
    </div>
  )
}

export function Card({
  title,
  actions,
  flush = false,
  children,
}: {
  readonly title?: string
  readonly actions?: ComponentChildren
  readonly flush?: boolean
  readonly children: ComponentChildren
}) {
  return (
    <section class={flush ? 'card flush' : 'card'} aria-label={title}>
      {flush && (title !== undefined || actions !== undefined) && (
        <header>
          <h2>{title}</h2>
          {actions !== undefined && <div class="actions">{actions}</div>}
        </header>
      )}
      {!flush && title !== undefined && <h2>{title}</h2>}
      {children}
    </section>
  )
}

/** What went wrong, said aloud by screen readers. */
export function Failure({ text }: { readonly text: string | undefined }) {
  return <div role="alert">{text !== undefined && text !== '' && <p class="notice bad">{text}</p>}</div>
}

/** What was done, said when it comes. */
export function Said({ text }: { readonly text: string }) {
  return <div role="status">{text !== '' && <p class="notice good">{text}</p>}</div>
}

export interface Column<T> {
  readonly title: string
  readonly right?: boolean
  /** What reads badly in several lines: moments, and how long ago. */
  readonly oneLine?: boolean
  readonly cell: (row: T) => ComponentChildren
}

export interface TableProps<T> {
  readonly label: string
  readonly columns: readonly Column<T>[]
  /** undefined: they are being read. */
  readonly rows: readonly T[] | undefined
  readonly id: (row: T) => string
  readonly empty?: ComponentChildren
}

export function Table<T>({ label, columns, rows, id, empty = 'Nothing here.' }: TableProps<T>) {
  if (rows === undefined) return <div class="empty">Loading…</div>
  if (rows.length === 0) return <div class="empty">{empty}</div>
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reached by the keyboard, too
    <div class="scroll" tabIndex={0}>
      <table {...as('table')} aria-label={label}>
        <thead {...as('rowgroup')}>
          <tr {...as('row')}>
            {columns.map(({ title, right }) => (
              <th
                key={title}
                {...as('columnheader')}
                scope="col"
                class={right === true ? 'right' : undefined}
              >
                {title === '' ? <span class="hidden-visually">Actions</span> : title}
              </th>
            ))}
          </tr>
        </thead>
        <tbody {...as('rowgroup')}>
          {rows.map((row) => (
            <tr key={id(row)} {...as('row')}>
              {columns.map(({ title, right, oneLine, cell }) => (
                <td
                  key={title}
                  {...as('cell')}
                  data-title={title}
                  class={
                    title === ''
                      ? 'tools'
                      : right === true
                        ? 'right'
                        : oneLine === true
                          ? 'nowrap'
                          : undefined
                  }
                >
                  {cell(row)}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  )
}

/**
 * On a narrow screen each row is a list of its cells, and a browser may forget that what is not laid out as a table is one: it is
 * told.
 */
const as = (role: 'table' | 'rowgroup' | 'row' | 'columnheader' | 'cell') => ({ role })

/** A table of what is asked for again and again, on a card of its own. What could not be read does not go on loading. */
export function TableCard<T>({
  error,
  children,
  ...table
}: TableProps<T> & {
  readonly error: string | undefined
  /** Below the table. */
  readonly children?: ComponentChildren
}) {
  return (
    <>
      <Failure text={error} />
      {(table.rows !== undefined || error === undefined) && (
        <Card flush>
          <Table {...table} />
          {children}
        </Card>
      )}
    </>
  )
}

/** A line of the last values; what it shows is told in text beside it. */
export function Spark({ values }: { readonly values: readonly number[] }) {
  if (values.length < 2) return <svg class="spark" viewBox="0 0 100 34" aria-hidden="true" />
  const most = Math.max(1e-9, ...values)
  const points = values.map((value, index) => {
    const x = (index / (values.length - 1)) * 100
    return `${x.toFixed(2)},${(32 - (value / most) * 29).toFixed(2)}`
  })
  return (
    <svg class="spark" viewBox="0 0 100 34" preserveAspectRatio="none" aria-hidden="true">
      <path class="area" d={`M0,34 L${points.join(' L')} L100,34 Z`} />
      <path d={`M${points.join(' L')}`} />
    </svg>
  )
}

/** Its width is set by script, since the policy of the page allows no inline styles. */
export function Bar({
  share,
  tone = 'accent',
  label,
}: {
  readonly share: number
  readonly tone?: Tone
  readonly label: string
}) {
  const width = Math.max(0, Math.min(1, share))
  return (
    // biome-ignore lint/a11y/useSemanticElements: no two browsers let a meter be coloured in the same way
    <div
      class={`bar ${tone}`}
      role="meter"
      aria-label={label}
      aria-valuemin={0}
      aria-valuemax={100}
      aria-valuenow={Math.round(width * 100)}
    >
      <span
        ref={(span) => {
          if (span !== null) span.style.width = `${(width * 100).toFixed(1)}%`
        }}
      />
    </div>
  )
}
