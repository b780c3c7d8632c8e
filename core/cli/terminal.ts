/** What the commands write to: the real process in `main.ts`, buffers in tests. */
export interface Terminal {
  out(text: string): void
  err(text: string): void
  /** Of stderr, where progress goes. */
  readonly isInteractive: boolean
  readonly columns: number
  readonly environment: Readonly<Record<string, string | undefined>>
  readonly workingDirectory: string
  /** The whole screen; absent where standard output is no terminal. */
  readonly screen?: Screen | undefined
}

export type ScreenEvent =
  | { readonly kind: 'key'; readonly key: string }
  | { readonly kind: 'resize' }
  /** Ctrl-C, or a signal that ends the program. */
  | { readonly kind: 'end' }

export interface Screen {
  readonly hasColour: boolean
  size(): { readonly columns: number; readonly rows: number }
  /** Takes screen and keyboard; gives both back as they were when it is disposed or the process ends. */
  open(listener: (event: ScreenEvent) => void): Disposable
}

export interface Column {
  readonly title: string
  readonly align?: 'right'
}

/** Aligned columns, two spaces apart, titles in capitals; the last column is not padded. */
export function table(columns: readonly Column[], rows: readonly (readonly string[])[]): string {
  const cells = [columns.map(({ title }) => title.toUpperCase()), ...rows.map((row) => row.map(printable))]
  const widths = columns.map((_, index) => Math.max(...cells.map((row) => width(row[index] ?? ''))))
  return cells
    .map((row) =>
      columns
        .map(({ align }, index) => {
          const cell = row[index] ?? ''
          const padding = ' '.repeat(Math.max(0, (widths[index] ?? 0) - width(cell)))
          if (align === 'right') return padding + cell
          return index === columns.length - 1 ? cell : cell + padding
        })
        .join('  ')
        .trimEnd(),
    )
    .map((line) => `${line}\n`)
    .join('')
}

/** `name   value` lines. */
export function facts(pairs: readonly (readonly [string, string])[]): string {
  const longest = Math.max(...pairs.map(([name]) => name.length))
  return pairs.map(([name, value]) => `${name.padEnd(longest)}  ${printable(value)}\n`).join('')
}

/** Names come from clients: control characters in them must not steer the terminal. */
export function printable(text: string): string {
  return text.replace(
    /\p{Cc}/gu,
    (character) => `\\x${character.charCodeAt(0).toString(16).padStart(2, '0')}`,
  )
}

/** `1 bucket`, `2 buckets`. */
export function counted(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`
}

function width(text: string): number {
  return [...text].length
}

/** `2026-11-21 14:03:09` in UTC, with the Z that says so. */
export function formatTime(timeMs: number): string {
  return `${new Date(timeMs).toISOString().slice(0, 19).replace('T', ' ')}Z`
}

/**
 * One line on stderr that tells how far a long call is, shown after a second and rewritten in place; nothing when stderr is
 * not a terminal.
 */
export class ProgressLine {
  readonly #terminal: Terminal
  readonly #beganMs = performance.now()
  #shown = 0

  constructor(terminal: Terminal) {
    this.#terminal = terminal
  }

  update(stage: string, done: number, total: number): void {
    if (!this.#terminal.isInteractive || performance.now() - this.#beganMs < 1000) return
    const line =
      total > 0
        ? `${stage}  ${bar(done / total)} ${Math.floor((100 * done) / total)} %  ${done} of ${total}`
        : `${stage}  ${done > 0 ? done : `${Math.floor((performance.now() - this.#beganMs) / 1000)} s`}`
    const text = line.slice(0, this.#terminal.columns - 1)
    this.#terminal.err(`\r${text.padEnd(this.#shown)}`)
    this.#shown = text.length
  }

  clear(): void {
    if (this.#shown > 0) this.#terminal.err(`\r${' '.repeat(this.#shown)}\r`)
    this.#shown = 0
  }
}

function bar(share: number): string {
  const filled = Math.round(20 * Math.min(1, Math.max(0, share)))
  return `[${'#'.repeat(filled)}${'-'.repeat(20 - filled)}]`
}
