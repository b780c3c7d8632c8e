import { z } from 'zod'
import type { PolicyManifest } from '../../core/contract/policy-deployment.ts'
import { manifestSection } from './module-sections.ts'
import { ModuleRefusal } from './wasm/module-refusal.ts'

const manifestBytesMost = 64 << 10

/** Unknown keys are let through: a manifest of tomorrow loads today. */
const manifestSchema = z.looseObject({
  name: z.string().regex(/^[a-z][a-z0-9-]{0,62}$/, 'lower-case letters, digits and dashes, at most 63'),
  version: z.string().regex(/^[0-9A-Za-z][0-9A-Za-z.+-]{0,63}$/, 'for example 1.2.0'),
  hooks: z.array(z.string()).max(32),
  description: z.string().max(1_000).optional(),
  minHost: z
    .string()
    .regex(/^\d{1,5}\.\d{1,5}$/, 'ABI version, for example 1.0')
    .optional(),
  start: z.boolean().optional(),
  brief: z.array(z.string()).max(32).optional(),
  fuel: z.record(z.string(), z.int().positive()).optional(),
  reasons: z.record(z.string().regex(/^\d{1,10}$/), z.string().max(200)).optional(),
})

/** @throws ModuleRefusal of kind `manifest` that names the field */
export function parseManifest(section: Uint8Array | undefined): PolicyManifest {
  if (section === undefined) {
    throw new ModuleRefusal(
      'manifest',
      `the module has no custom section ${manifestSection}: name, version, hooks`,
    )
  }
  if (section.length > manifestBytesMost) {
    throw new ModuleRefusal(
      'manifest',
      `the manifest has ${section.length} bytes, more than ${manifestBytesMost}`,
    )
  }
  let json: unknown
  try {
    json = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(section))
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause)
    throw new ModuleRefusal('manifest', `the manifest is not JSON in UTF-8: ${why}`)
  }
  const parsed = manifestSchema.safeParse(json)
  if (parsed.success) {
    const {
      name,
      version,
      hooks,
      description,
      minHost,
      start = false,
      brief,
      fuel = {},
      reasons = {},
    } = parsed.data
    return {
      name,
      version,
      hooks,
      ...(description === undefined ? {} : { description }),
      ...(minHost === undefined ? {} : { minHost }),
      ...(brief === undefined ? {} : { brief }),
      start,
      fuel,
      reasons,
    }
  }
  const faults = parsed.error.issues.map(({ path, message }) => `${path.join('.') || 'manifest'}: ${message}`)
  throw new ModuleRefusal('manifest', `the manifest is not valid: ${faults.slice(0, 3).join('; ')}`)
}
