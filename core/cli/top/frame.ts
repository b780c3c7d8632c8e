import type { ScreenSize } from './screen-lines.ts'

/**
 * What a terminal shows, to be replaced by the next look. Only lines that are not the same are written, in one piece and between the
 * marks of a synchronized update, so nothing flickers and little goes over a slow line.
 */
export class Frame {
  #shown: readonly string[] = []
  #size: ScreenSize = { columns: 0, rows: 0 }

  /** The bytes that turn the last frame into this one; empty: it is the same. */
  next(lines: readonly string[], size: ScreenSize): string {
    const isNew = size.columns !== this.#size.columns || size.rows !== this.#size.rows
    const before = isNew ? [] : this.#shown
    const after = lines.slice(0, size.rows)
    let changes = isNew ? '\x1b[2J' : ''
    for (let row = 0; row < Math.max(before.length, after.length); row++) {
      const line = after[row] ?? ''
      if (line === (before[row] ?? '')) continue
      changes += `\x1b[${row + 1};1H${line}\x1b[K`
    }
    this.#shown = after
    this.#size = size
    return changes === '' ? '' : `\x1b[?2026h${changes}\x1b[?2026l`
  }
}
