/** Text forms of bytes and names. */

const encoder = new TextEncoder()
const decoder = new TextDecoder()

export const utf8 = (text: string): Uint8Array => encoder.encode(text)
export const fromUtf8 = (bytes: Uint8Array): string => decoder.decode(bytes)

const hexDigits = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, '0'))

export function hex(bytes: Uint8Array): string {
  let text = ''
  for (const byte of bytes) text += hexDigits[byte]
  return text
}

/** Only for a few bytes: digests and policy documents. */
export function base64(bytes: Uint8Array): string {
  let text = ''
  for (const byte of bytes) text += String.fromCharCode(byte)
  return btoa(text)
}

const unreserved = /^[A-Za-z0-9\-._~]*$/

/** `UriEncode` of Signature V4: every byte of the UTF-8 but A-Z a-z 0-9 - . _ ~ is written %XX. */
export function encodeUri(text: string): string {
  if (unreserved.test(text)) return text
  return encodeURIComponent(text).replace(
    /[!'()*]/g,
    (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`,
  )
}

const plainKey = /^[A-Za-z0-9\-_~/]*$/

/** A key as signed: slashes stay. */
export function encodeKey(key: string): string {
  if (plainKey.test(key)) return key
  return encodeUri(key).replaceAll('%2F', '/')
}

const dotSegment = /(^|\/)\.{1,2}(\/|$)/

/**
 * A key as it goes into a URL. Every URL parser removes the segments `.` and `..`, and the request would reach another
 * object; with their slashes escaped they are no segments. The signature is the same: servers sign the decoded path.
 */
export function keyPath(key: string): string {
  return dotSegment.test(key) ? encodeUri(key) : encodeKey(key)
}

/** Sorted by name and encoded: the query as sent and as signed. */
export function encodeQuery(query: Readonly<Record<string, string>>): string {
  const pairs: (readonly [string, string])[] = []
  for (const name in query) pairs.push([encodeUri(name), encodeUri(query[name] ?? '')])
  pairs.sort(([a], [b]) => (a < b ? -1 : 1))
  return pairs.map(([name, value]) => `${name}=${value}`).join('&')
}

/** Header values are bytes: what is not ASCII travels as UTF-8, each byte as one character. */
export function headerValue(text: string): string {
  if (isAscii.test(text)) return text
  let bytes = ''
  for (const byte of utf8(text)) bytes += String.fromCharCode(byte)
  return bytes
}

/** The other way; bytes that are no UTF-8 stay as they are. */
export function headerText(value: string): string {
  if (isAscii.test(value)) return value
  try {
    return strictDecoder.decode(Uint8Array.from(value, (character) => character.charCodeAt(0)))
  } catch {
    return value
  }
}

const isAscii = /^[ -~]*$/
const strictDecoder = new TextDecoder('utf-8', { fatal: true })
