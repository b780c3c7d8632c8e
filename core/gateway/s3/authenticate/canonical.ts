import { decodePathPart, queryPairs } from '../target.ts'

/** Canonical forms of Signature V4 as S3 uses it (no path normalisation, each part encoded once). */

const unreserved = /^[A-Za-z0-9\-._~]*$/
const unreservedPath = /^[A-Za-z0-9\-._~/]*$/

/** Percent-encodes everything but A-Z a-z 0-9 - . _ ~, upper-case hex: the `UriEncode` of Signature V4. */
export function encodeRfc3986(text: string): string {
  if (unreserved.test(text)) return text
  return encodeURIComponent(text).replace(
    /[!'()*]/g,
    (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`,
  )
}

/**
 * Decoded and encoded again, because clients differ in what they escape on the wire but not in what they sign.
 */
export function canonicalPath(rawPath: string): string {
  if (unreservedPath.test(rawPath)) return rawPath
  return encodeRfc3986(decodePathPart(rawPath)).replaceAll('%2F', '/')
}

/** Sorted by name, then value; the parameter `omit` is left out. */
export function canonicalQuery(rawQuery: string, omit?: string): string {
  return joinSorted(
    queryPairs(rawQuery).map(([name, value]) => [encodeRfc3986(name), encodeRfc3986(value)]),
    omit,
  )
}

const encoded = /^(?:[A-Za-z0-9\-._~&=]|%[0-9A-F]{2})*$/

/**
 * The same without decoding, for a query that is encoded already; undefined when it visibly is not. A client that escapes
 * more than it must gets another signature from this form, and then the full form is asked.
 */
export function encodedQuery(rawQuery: string, omit?: string): string | undefined {
  if (!encoded.test(rawQuery)) return undefined
  const pairs: [string, string][] = []
  for (const part of rawQuery.split('&')) {
    if (part === '') continue
    const equals = part.indexOf('=')
    pairs.push(equals < 0 ? [part, ''] : [part.slice(0, equals), part.slice(equals + 1)])
  }
  return joinSorted(pairs, omit)
}

function joinSorted(pairs: [string, string][], omit: string | undefined): string {
  // Encoded text is ASCII, so code-unit order is byte order.
  if (pairs.length > 1) pairs.sort((a, b) => order(a[0], b[0]) || order(a[1], b[1]))
  let text = ''
  for (const [name, value] of pairs) {
    if (name !== omit) text += `${text === '' ? '' : '&'}${name}=${value}`
  }
  return text
}

const order = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0)

/** Trimmed, with runs of spaces as one. */
export function canonicalHeaderValue(value: string): string {
  const trimmed = value.trim()
  return trimmed.includes('  ') ? trimmed.replace(/ {2,}/g, ' ') : trimmed
}

/**
 * `name:value\n` for every signed header, in the order given. `repeated` has the values of a header that came more than
 * once joined by a comma alone, as Signature V4 wants; node:http joins by a comma and a space.
 */
export function canonicalHeaders(
  signedHeaders: readonly string[],
  headers: Readonly<Record<string, string | string[] | undefined>>,
  repeated?: ReadonlyMap<string, string>,
): string {
  let text = ''
  for (const name of signedHeaders) {
    const value = repeated?.get(name) ?? headers[name] ?? ''
    text += `${name}:${canonicalHeaderValue(typeof value === 'string' ? value : value.join(','))}\n`
  }
  return text
}

/** Values of headers that occur more than once, from node's flat list; undefined when none does. */
export function repeatedHeaders(rawHeaders: readonly string[]): ReadonlyMap<string, string> | undefined {
  const seen = new Map<string, string>()
  let repeated: Map<string, string> | undefined
  for (let index = 0; index + 1 < rawHeaders.length; index += 2) {
    const name = (rawHeaders[index] ?? '').toLowerCase()
    const value = canonicalHeaderValue(rawHeaders[index + 1] ?? '')
    const before = seen.get(name)
    if (before === undefined) seen.set(name, value)
    else {
      const joined = `${before},${value}`
      seen.set(name, joined)
      repeated ??= new Map()
      repeated.set(name, joined)
    }
  }
  return repeated
}
