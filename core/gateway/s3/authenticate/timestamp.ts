/** The time of a signed request in both shapes that Signature V4 needs. */
export interface SigningTime {
  readonly ms: number
  /** `YYYYMMDDTHHMMSSZ` */
  readonly iso: string
}

const basic = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/

/** Requests of one moment carry one of few times, and a presigned URL always the same one. */
const recent = new Map<string, SigningTime>()
const maxRecent = 256

/** Accepts ISO 8601 basic (`20130524T000000Z`) and HTTP dates. Undefined when it is neither. */
export function parseSigningTime(text: string): SigningTime | undefined {
  const known = recent.get(text)
  if (known !== undefined) return known
  const time = parse(text)
  if (time !== undefined) {
    if (recent.size >= maxRecent) recent.clear()
    recent.set(text, time)
  }
  return time
}

function parse(text: string): SigningTime | undefined {
  const match = basic.exec(text)
  if (match !== null) {
    const [, year, month, day, hour, minute, second] = match.map(Number)
    const ms = Date.UTC(year ?? 0, (month ?? 0) - 1, day, hour, minute, second)
    // Date.UTC carries 20130231 over into March; a date that does not come back the same was never one.
    return formatSigningTime(ms) === text ? { ms, iso: text } : undefined
  }
  if (!/^[A-Z][a-z]{2}, \d\d/.test(text)) return undefined
  const ms = Date.parse(text)
  return Number.isNaN(ms) ? undefined : { ms, iso: formatSigningTime(ms) }
}

export function formatSigningTime(ms: number): string {
  return `${new Date(ms).toISOString().slice(0, 19).replace(/[-:]/g, '')}Z`
}
