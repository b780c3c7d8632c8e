import { now } from './node.ts'

/** Quantities for people. */
const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB']

export function bytes(value: number): string {
  if (value < 0) return 'unknown'
  let rest = value
  let unit = 0
  while (rest >= 1024 && unit < units.length - 1) {
    rest /= 1024
    unit += 1
  }
  return `${rest >= 100 || unit === 0 ? Math.round(rest) : rest.toFixed(1)} ${units[unit]}`
}

const grouped = new Intl.NumberFormat('en-US', { maximumFractionDigits: 0 })
const short = new Intl.NumberFormat('en-US', { maximumFractionDigits: 1, notation: 'compact' })

export const count = (value: number): string => (value < 0 ? 'unknown' : grouped.format(value))
export const compact = (value: number): string => (value < 0 ? 'unknown' : short.format(value))

export function duration(ms: number): string {
  if (ms < 0) return 'unknown'
  if (ms < 1) return `${ms.toFixed(ms === 0 ? 0 : 2)} ms`
  if (ms < 1000) return `${Math.round(ms)} ms`
  const seconds = ms / 1000
  if (seconds < 60) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`
  const minutes = seconds / 60
  if (minutes < 60) return `${Math.floor(minutes)} min`
  const hours = minutes / 60
  if (hours < 48) return `${Math.floor(hours)} h`
  return `${Math.floor(hours / 24)} days`
}

export const ago = (atMs: number): string =>
  atMs <= 0 ? 'never' : `${duration(Math.max(0, now() - atMs))} ago`

const clockTime = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium', timeStyle: 'medium' })
export const moment = (atMs: number): string => (atMs <= 0 ? 'never' : clockTime.format(new Date(atMs)))

export const percent = (share: number): string => `${(share * 100).toFixed(share < 0.1 ? 1 : 0)} %`
export const plural = (value: number, one: string, many = `${one}s`): string =>
  `${count(value)} ${value === 1 ? one : many}`
export const digest = (hex: string): string => hex.slice(0, 12)
