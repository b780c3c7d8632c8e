import { printable } from '../terminal.ts'

export type Style = 'plain' | 'bold' | 'dim' | 'good' | 'bad' | 'warn' | 'title'

/** A piece of a line; what it shows is counted in characters, whatever it is painted with. */
export interface Piece {
  readonly text: string
  readonly style: Style
}

export type Line = readonly Piece[]

/** Names come from clients: control characters in them are made visible. */
export const piece = (text: string, style: Style = 'plain'): Piece => ({ text: printable(text), style })

export const lengthOf = (line: Line): number => line.reduce((sum, { text }) => sum + [...text].length, 0)

const codes: Readonly<Record<Style, string>> = {
  plain: '',
  bold: '1',
  dim: '2',
  good: '32',
  bad: '1;31',
  warn: '33',
  title: '7',
}

/** A line of at most so many columns, as a terminal takes it. */
export function paintLine(line: Line, columns: number, hasColour: boolean): string {
  let left = columns
  let text = ''
  for (const each of line) {
    const shown = [...each.text].slice(0, left)
    left -= shown.length
    const code = hasColour ? codes[each.style] : ''
    text += code === '' ? shown.join('') : `\x1b[${code}m${shown.join('')}\x1b[0m`
    if (left === 0) break
  }
  return hasColour ? text : text.trimEnd()
}

export interface Cell {
  readonly text: string
  readonly style?: Style
}

export interface TableColumn {
  readonly title: string
  readonly align?: 'right'
}

/** Aligned columns, two spaces apart; the titles are the first line. */
export function alignedTable(
  columns: readonly TableColumn[],
  rows: readonly (readonly Cell[])[],
): readonly Line[] {
  const titles = columns.map(({ title }): Cell => ({ text: title.toUpperCase(), style: 'dim' }))
  const all = [titles, ...rows].map((row) => row.map(({ text, style }) => piece(text, style ?? 'plain')))
  const widths = columns.map((_, index) =>
    Math.max(...all.map((row) => lengthOf(row.slice(index, index + 1)))),
  )
  return all.map((row) =>
    row.flatMap((cell, index): Line => {
      const padding = piece(' '.repeat((widths[index] ?? 0) - [...cell.text].length))
      const between = piece(index === 0 ? '' : '  ')
      return columns[index]?.align === 'right' ? [between, padding, cell] : [between, cell, padding]
    }),
  )
}
