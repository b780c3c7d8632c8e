import { z } from 'zod'
import { StorageError } from '../contract/errors.ts'
import { policyModuleBytesMost } from '../contract/policy-deployment.ts'
import type { Call, Streaming, Unary } from './call.ts'
import { parse } from './call.ts'
import type { PolicyBackend } from './policy-backend.ts'

const moduleBytes = policyModuleBytesMost
const configChars = 16_384
/** Of a streamed trace: small enough that a slow reader holds little. */
const pieceChars = 64 * 1024

const name = z.string().regex(/^[a-z][a-z0-9-]{0,62}$/, 'lower-case letters, digits and dashes, at most 63')
const digest = z
  .string()
  .regex(/^([0-9a-f]{6,64})?$/, 'a digest in lower-case hex, at least its first 6 digits')
const config = z
  .string()
  .max(configChars)
  .transform((text) => (text === '' ? '{}' : text))
const hook = z.enum(['select', 'classify', 'admit', 'plan', 'resolve'])

const pushRequest = z.object({
  wasm: z
    .instanceof(Uint8Array)
    .refine(({ length }) => length > 0 && length <= moduleBytes, `a module has 1 to ${moduleBytes} bytes`),
  signature: z
    .object({
      publicKey: z.string().regex(/^[0-9a-fA-F]{64}$/, '64 hexadecimal digits'),
      signature: z.string().regex(/^[0-9a-fA-F]{128}$/, '128 hexadecimal digits'),
    })
    .nullable(),
  config,
})

const count = (most: number) => z.number().int().min(0).max(most)
const activateRequest = z.object({
  name,
  digest,
  config,
  position: count(15).optional(),
  gradual: z
    .object({
      shadowCalls: count(1e9),
      canaryPercent: count(99),
      canaryCalls: count(1e9),
      stepTimeoutMs: z
        .number()
        .int()
        .min(1)
        .max(7 * 86_400_000),
    })
    .nullable(),
})

/** The methods of policy.proto, by name. */
export function policyMethods(backend: PolicyBackend): {
  readonly unary: Readonly<Record<string, Unary>>
  readonly streaming: Readonly<Record<string, Streaming>>
} {
  return {
    unary: {
      PushPolicy: ({ message }) => {
        const { wasm, signature, config: withConfig } = parse(pushRequest, message)
        const lower = signature && {
          publicKey: signature.publicKey.toLowerCase(),
          signature: signature.signature.toLowerCase(),
        }
        return backend.push(
          { wasm: new Uint8Array(wasm), ...(lower === null ? {} : { signature: lower }) },
          withConfig,
        )
      },
      ActivatePolicy: ({ message }) => {
        const { position, gradual, ...request } = parse(activateRequest, message)
        // What is not given is told by the oneof that an optional field is on the wire.
        const isPlaced = (message as { readonly _position?: string })._position !== undefined
        return backend.activate({
          ...request,
          ...(isPlaced && position !== undefined ? { position } : {}),
          ...(gradual === null ? {} : { gradual }),
        })
      },
      RollbackPolicy: ({ message }) => {
        const request = parse(z.object({ name, digest }), message)
        return backend.rollback(request.name, request.digest)
      },
      DeactivatePolicy: ({ message }) => backend.deactivate(parse(z.object({ name }), message).name),
      GetPolicyStatus: () => backend.status(),
      ListPolicies: () => backend.list(),
      ExplainPolicy: (call) => explain(backend, call),
    },
    streaming: {
      async *RecordPolicies() {
        const lines = backend.trace()
        for (let at = 0; at < lines.length; ) {
          // A piece ends with a line, so that each can be read by itself.
          const cut = lines.indexOf('\n', at + pieceChars)
          const end = cut < 0 ? lines.length : cut + 1
          yield { lines: lines.slice(at, end) }
          at = end
        }
      },
    },
  }
}

function explain(backend: PolicyBackend, { message }: Call) {
  const request = parse(
    z.object({
      requestId: z.string().min(1).max(128).optional(),
      recent: z.number().int().min(1).max(100).optional(),
      hook: hook.optional(),
    }),
    message,
  )
  if (request.requestId !== undefined) {
    const found = backend.explainRequest(request.requestId)
    if (found === undefined) {
      throw new StorageError(
        'NO_SUCH_KEY',
        `request ${request.requestId} is not among the last ones that this node remembers (qos.explainRequests)`,
      )
    }
    return { requests: [found] }
  }
  if (request.hook !== undefined) return { decisions: backend.explainHook(request.hook) }
  return { requests: backend.recentRequests(request.recent ?? 20) }
}
