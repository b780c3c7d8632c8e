import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import type { PolicyHook } from '../../core/contract/policy.ts'

/** The policies that come with Pando, written like anyone's; the set-up builds them beside this file in dist/. */
export const builtinPolicies = {
  adaptive: ['select'],
  fair: ['classify', 'admit', 'plan'],
  'tenant-caps': ['admit'],
  'failover-latest': ['resolve'],
} as const satisfies Readonly<Record<string, readonly PolicyHook[]>>

export type BuiltinPolicy = keyof typeof builtinPolicies

/** Its module; undefined = it has not been built here, so the fallbacks decide. */
export async function readBuiltinPolicy(name: BuiltinPolicy): Promise<Uint8Array<ArrayBuffer> | undefined> {
  const path = fileURLToPath(new URL(`./${name}.wasm`, import.meta.url))
  return existsSync(path) ? new Uint8Array(await readFile(path)) : undefined
}
