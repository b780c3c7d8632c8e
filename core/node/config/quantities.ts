/** Sizes and durations as people write them. Parsed exactly: a number that does not fit is refused, never rounded. */

const sizeUnits: Readonly<Record<string, number>> = {
  B: 1,
  KiB: 1024,
  MiB: 1024 ** 2,
  GiB: 1024 ** 3,
  TiB: 1024 ** 4,
  KB: 1000,
  MB: 1000 ** 2,
  GB: 1000 ** 3,
  TB: 1000 ** 4,
}

const durationUnits: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
}

/** `256MiB` -> bytes; a bare number is bytes. Undefined when it is not a size. */
export function parseSize(text: string | number): number | undefined {
  return parseQuantity(text, sizeUnits, true)
}

/** `30s`, `14d` -> milliseconds; a bare number is milliseconds. Undefined when it is not a duration. */
export function parseDuration(text: string | number): number | undefined {
  return parseQuantity(text, durationUnits, false)
}

function parseQuantity(
  text: string | number,
  units: Readonly<Record<string, number>>,
  ignoreCase: boolean,
): number | undefined {
  if (typeof text === 'number') return Number.isSafeInteger(text) && text >= 0 ? text : undefined
  const match = /^\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*$/.exec(text)
  if (match === null) return undefined
  const unit = match[2] ?? ''
  const factor = unit === '' ? 1 : lookUp(units, unit, ignoreCase)
  if (factor === undefined) return undefined
  const value = Number(match[1]) * factor
  return Number.isSafeInteger(value) ? value : undefined
}

function lookUp(
  units: Readonly<Record<string, number>>,
  unit: string,
  ignoreCase: boolean,
): number | undefined {
  if (Object.hasOwn(units, unit)) return units[unit]
  if (!ignoreCase) return undefined
  const name = Object.keys(units).find((candidate) => candidate.toLowerCase() === unit.toLowerCase())
  return name === undefined ? undefined : units[name]
}

/** Bytes in the largest unit that keeps two significant places: `1.5 GiB`. */
export function formatSize(bytes: number): string {
  if (bytes < 1024) return `${bytes} B`
  let value = bytes
  let unit = 'B'
  for (const next of ['KiB', 'MiB', 'GiB', 'TiB', 'PiB']) {
    if (value < 1024) break
    value /= 1024
    unit = next
  }
  return `${value < 10 ? value.toFixed(2) : value < 100 ? value.toFixed(1) : value.toFixed(0)} ${unit}`
}

/** Milliseconds as `45s`, `3m 20s`, `2d 4h`: the two largest units. */
export function formatDuration(durationMs: number): string {
  if (durationMs < 1000) return `${Math.round(durationMs)}ms`
  const parts: string[] = []
  let rest = Math.floor(durationMs / 1000)
  for (const [unit, seconds] of [
    ['d', 86_400],
    ['h', 3600],
    ['m', 60],
    ['s', 1],
  ] as const) {
    const count = Math.floor(rest / seconds)
    rest -= count * seconds
    if (count > 0 && parts.length < 2) parts.push(`${count}${unit}`)
    else if (parts.length > 0) break
  }
  return parts.join(' ')
}
