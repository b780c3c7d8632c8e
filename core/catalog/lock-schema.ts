import { z } from 'zod'

const name = z.string().regex(/^[a-z0-9][a-z0-9./-]{0,63}$/, 'up to 64 of a-z, 0-9, ., / and -')
const position = z.int().min(1).max(Number.MAX_SAFE_INTEGER)

export const lockFence = z.strictObject({ name, token: position })

export const lockCommands = [
  z.strictObject({
    type: z.literal('acquire-lock'),
    name,
    owner: z.string().min(1).max(64),
    instead: z.strictObject({ token: position, renewed: position }).optional(),
  }),
  z.strictObject({ type: z.literal('renew-lock'), name, token: position }),
  z.strictObject({ type: z.literal('release-lock'), name, token: position }),
] as const
