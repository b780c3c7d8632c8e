import { z } from 'zod'
import { duration } from './value-schemas.ts'

/** The `policies` section: which policies this node lets in, and how fast. Its meaning is told in core/node/policies/README.md. */

const hook = z.enum(['select', 'classify', 'admit', 'plan', 'resolve'])

const key = z.strictObject({
  publicKey: z
    .string()
    .regex(/^[0-9a-fA-F]{64}$/, 'an Ed25519 public key: 64 hexadecimal digits')
    .transform((text) => text.toLowerCase())
    .describe('Ed25519 public key in hex.'),
  names: z
    .array(
      z
        .string()
        .regex(/^([a-z][a-z0-9-]{0,62}|[a-z0-9-]{0,62}\*)$/, "a policy's name, or a prefix that ends in *"),
    )
    .min(1)
    .max(64)
    .default(['*'])
    .describe('Policies that the key may sign: exact names, or a prefix that ends in *.'),
  hooks: z
    .array(hook)
    .min(1)
    .max(5)
    .default(['select', 'classify', 'admit', 'plan', 'resolve'])
    .describe('Hooks that they may decide.'),
})

export const policiesSection = z
  .strictObject({
    enabled: z
      .boolean()
      .default(true)
      .describe(
        'false: this node runs no policy; the built-in rules decide, whatever the region has deployed.',
      ),
    builtin: z
      .array(z.enum(['adaptive', 'fair', 'tenant-caps', 'failover-latest']))
      .max(4)
      .default(['adaptive', 'tenant-caps', 'fair', 'failover-latest'])
      .describe(
        'Policies that come with Pando, in the order in which they are asked, after all others, until the region deploys its ' +
          'own. `fair` always decides on admission: what is to be heard comes before it.',
      ),
    signatures: z
      .enum(['auto', 'required', 'optional'])
      .default('auto')
      .describe(
        'Whether a policy must be signed by one of `keys`. auto: as soon as there is a key. A signature that is given must ' +
          'be good in any case.',
      ),
    keys: z.array(key).max(64).prefault([]).describe('Keys that may sign policies, and for what.'),
    reloadInterval: duration(0, 60_000)
      .prefault('20ms')
      .describe(
        'Least time between two activations ordered from this node; more of them wait for their turn.',
      ),
    watch: z
      .string()
      .default('')
      .describe(
        'For development; empty: none. A directory, relative to the config file: every *.wasm that appears or changes in it is pushed and ' +
          'activated, 100 ms after its last change.',
      )
      .meta({ 'x-pando-node': true }),
  })
  .prefault({})
  .describe(
    'Policies: WebAssembly modules that decide how requests share the machine and which way data goes.',
  )

export type PoliciesConfig = z.output<typeof policiesSection>
