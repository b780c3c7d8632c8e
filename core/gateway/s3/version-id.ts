import type { VersionId } from '../../contract/object-model.ts'

/** Version ids as clients see them: base32hex (RFC 4648 section 7) in lower case without padding, or `null`. */
const alphabet = '0123456789abcdefghijklmnopqrstuv'
const versionIdBytes = 16
const versionIdLength = 26

export function formatVersionId(id: VersionId | 'null'): string {
  if (id === 'null') return id
  let text = ''
  let bits = 0
  let buffer = 0
  for (const byte of id) {
    buffer = (buffer << 8) | byte
    bits += 8
    while (bits >= 5) {
      bits -= 5
      text += alphabet.charAt((buffer >>> bits) & 31)
      buffer &= (1 << bits) - 1
    }
  }
  if (bits > 0) text += alphabet.charAt((buffer << (5 - bits)) & 31)
  return text
}

/** Undefined: not a version id at all, so no version can have it. */
export function parseVersionId(text: string): VersionId | 'null' | undefined {
  if (text === 'null') return 'null'
  if (text.length !== versionIdLength) return undefined
  const id = new Uint8Array(versionIdBytes)
  let length = 0
  let bits = 0
  let buffer = 0
  for (const char of text) {
    const value = alphabet.indexOf(char)
    if (value < 0) return undefined
    buffer = (buffer << 5) | value
    bits += 5
    if (bits >= 8) {
      bits -= 8
      id[length] = (buffer >>> bits) & 0xff
      length += 1
      buffer &= (1 << bits) - 1
    }
  }
  // The last character carries three bits beyond the 16th byte: only zero is canonical.
  return buffer === 0 ? id : undefined
}
