import { createHash } from 'node:crypto'
import { StorageError } from '../../core/contract/errors.ts'
import { federationLimits } from '../../core/contract/federation.ts'
import { parseEndpoint } from './endpoint.ts'
import { isSignedBy, publicKeyPattern, signBy } from './region-keys.ts'

/**
 * What one operator hands to another: where a region is, the key by which it is known, and a secret number that lets one region in
 * once. As text: `pando1.` claims (JSON) `.` signature by that key, both base64url.
 */
export interface Invitation {
  /** 16 random bytes in hex. */
  readonly secret: string
  readonly regionId: number
  readonly name: string
  /** Of the region that invites. */
  readonly publicKey: string
  readonly endpoints: readonly string[]
  readonly expiresMs: number
  /** The only region that may use it. */
  readonly forRegion?: number
}

const prefix = 'pando1'
const maxTokenChars = 8_192
/** In front, so that a signature for something else is none for this. */
const purpose = 'pando-invitation/1\n'

export function encodeInvitation(invitation: Invitation, seed: Uint8Array): string {
  const claims = Buffer.from(JSON.stringify(invitation)).toString('base64url')
  const signature = signBy(seed, Buffer.from(purpose + claims))
  return `${prefix}.${claims}.${Buffer.from(signature).toString('base64url')}`
}

/** Undamaged, and signed by the key that it names: whether that key may invite is for who knows it to say. ACCESS_DENIED. */
export function decodeInvitation(token: string): Invitation {
  const text = token.replace(/\s/g, '')
  const [head, claims, signature, ...rest] = text.split('.')
  if (text.length > maxTokenChars || head !== prefix || claims === undefined || signature === undefined) {
    throw refused('this is no invitation: it begins with pando1. and is one line')
  }
  const invitation = parseClaims(Buffer.from(claims, 'base64url').toString('utf8'))
  const isSigned =
    rest.length === 0 &&
    invitation !== undefined &&
    isSignedBy(
      invitation.publicKey,
      Buffer.from(purpose + claims),
      Uint8Array.from(Buffer.from(signature, 'base64url')),
    )
  if (!isSigned) throw refused('the invitation is damaged or forged: its signature is not that of its region')
  return invitation
}

/** How a record names an invitation without telling it. */
export function invitationDigest(secret: string): string {
  return createHash('sha256').update(`pando invitation ${secret}`).digest('hex')
}

export function refused(reason: string): StorageError {
  return new StorageError('ACCESS_DENIED', reason)
}

function parseClaims(text: string): Invitation | undefined {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    return undefined
  }
  if (typeof value !== 'object' || value === null) return undefined
  const { secret, regionId, name, publicKey, endpoints, expiresMs, forRegion } = value as Record<
    string,
    unknown
  >
  const isWhole =
    typeof secret === 'string' &&
    /^[0-9a-f]{32}$/.test(secret) &&
    isRegionId(regionId) &&
    isRegionName(name) &&
    typeof publicKey === 'string' &&
    publicKeyPattern.test(publicKey) &&
    areEndpoints(endpoints) &&
    endpoints.length > 0 &&
    Number.isSafeInteger(expiresMs) &&
    (forRegion === undefined || isRegionId(forRegion))
  if (!isWhole) return undefined
  return {
    ...{ secret, regionId, name, publicKey, endpoints, expiresMs: Number(expiresMs) },
    ...(forRegion === undefined ? {} : { forRegion }),
  }
}

export function isRegionId(value: unknown): value is number {
  return Number.isInteger(value) && Number(value) >= 0 && Number(value) <= 0xffff
}

export function isRegionName(value: unknown): value is string {
  return typeof value === 'string' && /^[\x21-\x7e]{1,64}$/.test(value)
}

export function areEndpoints(value: unknown): value is readonly string[] {
  return (
    Array.isArray(value) &&
    value.length <= federationLimits.endpoints &&
    value.every((endpoint) => typeof endpoint === 'string' && parseEndpoint(endpoint) !== undefined)
  )
}
