import type { z } from 'zod'
import { StorageError } from '../contract/errors.ts'

/** One admin call, past the door. */
export interface Call {
  readonly message: unknown
  /** Nonce of a signed call; undefined on the local socket, where nothing needs to be sealed. */
  readonly nonce: string | undefined
  readonly signal: AbortSignal
}

export type Unary = (call: Call) => Promise<unknown> | unknown
export type Streaming = (call: Call) => AsyncIterable<unknown>

/** INVALID_ARGUMENT that names the field. */
export function parse<T>(schema: z.ZodType<T>, message: unknown, at = ''): T {
  const parsed = schema.safeParse(message)
  if (parsed.success) return parsed.data
  const issue = parsed.error.issues[0]
  const path = [at, ...(issue?.path ?? [])].filter((part) => part !== '').join('.')
  // Only the rule is told: a message of the parser could quote a secret.
  throw new StorageError('INVALID_ARGUMENT', `${path}: ${issue?.message ?? 'not valid'}`)
}
