import { decodeBase32Hex, encodeBase32Hex } from '../../contract/base32hex.ts'
import type { VersionId } from '../../contract/object-model.ts'

/** Version ids as clients see them: base32hex, or `null`. */
const versionIdBytes = 16

export const formatVersionId = (id: VersionId | 'null'): string => (id === 'null' ? id : encodeBase32Hex(id))

/** Undefined: not a version id at all, so no version can have it. */
export function parseVersionId(text: string): VersionId | 'null' | undefined {
  return text === 'null' ? text : decodeBase32Hex(text, versionIdBytes)
}
