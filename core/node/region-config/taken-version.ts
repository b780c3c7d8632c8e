import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import type { ConfigVersion } from '../../contract/region-config.ts'
import { writeDurably } from '../durable-file.ts'

/** What a start needs of a version, before the catalog can be read. */
export type TakenVersion = Pick<ConfigVersion, 'version' | 'text' | 'hash'>

const fileName = 'region-config.json'
const schema = z.object({ version: z.int().min(1), text: z.string(), hash: z.string() })

/** The version that this node took last. Undefined: none, or one that is not what it was; the catalog has it. */
export async function readTakenVersion(dataPath: string): Promise<TakenVersion | undefined> {
  try {
    const taken = schema.parse(JSON.parse(await readFile(join(dataPath, fileName), 'utf8')))
    return createHash('sha256').update(taken.text).digest('hex') === taken.hash ? taken : undefined
  } catch {
    return undefined
  }
}

export async function writeTakenVersion(
  dataPath: string,
  { version, text, hash }: TakenVersion,
): Promise<void> {
  await writeDurably(join(dataPath, fileName), `${JSON.stringify({ version, text, hash }, null, 2)}\n`)
}
