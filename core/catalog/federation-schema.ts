import { z } from 'zod'
import { federationLimits } from '../contract/federation.ts'
import { acceptances, sharingLimits } from '../contract/sharing.ts'
import { policyLimits } from './policy-rows.ts'

const bytes = z.instanceof(Uint8Array)
const count = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER)
const text = z.string()
const digest = z.string().regex(/^[0-9a-f]{64}$/, 'a SHA-256 in lower-case hex')
const regionId = z.int().min(0).max(0xffff)
const publicKey = z.string().regex(/^[0-9a-f]{64}$/, 'an Ed25519 key in lower-case hex')
const distinct = (texts: readonly string[]): boolean => new Set(texts).size === texts.length

const policyName = text.regex(/^[a-z][a-z0-9-]{0,62}$/)
const regions = z
  .array(regionId)
  .min(1)
  .max(federationLimits.peers)
  .refine(
    (ids) => ids.every((id, at) => at === 0 || (ids[at - 1] ?? 0) < id),
    'regions are ascending, each once',
  )
const publication = z.strictObject({
  name: policyName,
  digest,
  config: text.max(policyLimits.configChars),
  activate: z.boolean(),
  gradual: z
    .strictObject({
      shadowCalls: count,
      canaryPercent: z.int().min(0).max(99),
      canaryCalls: count,
      stepTimeoutMs: count,
    })
    .optional(),
  ...{ regions, revision: count, sinceMs: count },
})
const takenPublication = z.strictObject({
  ...{ name: policyName, digest, revision: count, atMs: count },
  outcome: z.enum(['accepted', 'refused']),
  reason: text.max(sharingLimits.reasonChars),
})

/** What the record of a federation must look like before it may enter the log. */
export const federationRecord = z.strictObject({
  epoch: count,
  keys: z
    .array(
      z.strictObject({ publicKey, sealedSeed: bytes.refine((seal) => seal.length <= 256), fromMs: count }),
    )
    .max(federationLimits.keys)
    .refine((keys) => distinct(keys.map((key) => key.publicKey)), 'a key is named once'),
  peers: z
    .array(
      z.strictObject({
        regionId,
        name: text.min(1).max(federationLimits.name),
        publicKeys: z.array(publicKey).min(1).max(federationLimits.keys),
        endpoints: z.array(text.min(1).max(federationLimits.endpoint)).max(federationLimits.endpoints),
        joinedMs: count,
        knowsKey: z.union([z.literal(''), publicKey]),
        invitation: z.union([z.literal(''), digest]),
        accepts: z.array(z.enum(acceptances)).max(acceptances.length).optional(),
        taken: z.array(takenPublication).max(sharingLimits.publications).optional(),
      }),
    )
    .max(federationLimits.peers)
    .refine(
      (peers) =>
        peers.every((peer, index) => index === 0 || (peers[index - 1]?.regionId ?? 0) < peer.regionId),
      'peers are ascending by region, each once',
    )
    .refine((peers) => distinct(peers.flatMap(({ publicKeys }) => publicKeys)), 'a key is of one peer'),
  invitations: z
    .array(z.strictObject({ digest, expiresMs: count, regionId: regionId.optional() }))
    .max(federationLimits.invitations),
  publications: z
    .array(publication)
    .max(sharingLimits.publications)
    .refine((all) => distinct(all.map(({ name }) => name)), 'a policy is offered once')
    .optional(),
})
