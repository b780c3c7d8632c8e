import { createHash } from 'node:crypto'
import { z } from 'zod'
import type { CommandResult } from '../contract/catalog.ts'
import { StorageError } from '../contract/errors.ts'
import {
  type ConfigVersion,
  type RegionConfigCommand,
  type RegionConfigReads,
  regionConfigLimits,
} from '../contract/region-config.ts'
import type { ApplyContext } from './apply-context.ts'
import { pack, unpack } from './encoding.ts'
import { table, tableKey } from './keys.ts'
import { rowValue, type TableReader } from './tables.ts'

/** Rows: [version u48]; that of version 0 holds the number of the newest. */
const rowKeyOf = (version: number): Buffer => {
  const number = Buffer.alloc(6)
  number.writeUIntBE(version, 0, 6)
  return tableKey(table.regionConfig, number)
}

export const regionConfigCommand = z.strictObject({
  type: z.literal('set-region-config'),
  base: z.int().min(0).max(Number.MAX_SAFE_INTEGER),
  text: z.string().max(regionConfigLimits.textBytes),
  author: z.string().max(regionConfigLimits.author),
  comment: z.string().max(regionConfigLimits.comment),
})

export function setRegionConfig(
  context: ApplyContext,
  { base, text, author, comment }: RegionConfigCommand,
): CommandResult<RegionConfigCommand> {
  const newest = readNewest(context)
  if (base !== newest) {
    throw new StorageError(
      'CONFLICT',
      `the configuration of the region has version ${newest}, and this was made from ${base}: another change came first`,
    )
  }
  const made: ConfigVersion = {
    ...{ version: newest + 1, text, author, comment },
    hash: createHash('sha256').update(text).digest('hex'),
    madeMs: context.entry.nowMs,
  }
  context.put(rowKeyOf(made.version), pack(made))
  context.put(rowKeyOf(0), pack(made.version))
  if (made.version > regionConfigLimits.keptVersions) {
    context.remove(rowKeyOf(made.version - regionConfigLimits.keptVersions))
  }
  return { version: made.version }
}

const readNewest = (reader: Pick<TableReader, 'get'>): number => {
  const row = reader.get(rowKeyOf(0))
  return row === undefined ? 0 : (unpack(row) as number)
}

function readVersions(reader: Pick<TableReader, 'rows'>): ConfigVersion[] {
  const found: ConfigVersion[] = []
  const cursor = reader.rows(rowKeyOf(1), Uint8Array.of(table.regionConfig + 1))
  while (cursor.next()) found.push(unpack(rowValue(cursor)) as ConfigVersion)
  cursor.close()
  return found.reverse()
}

export const createRegionConfigReads = (reader: TableReader): RegionConfigReads => ({
  regionConfig(version = readNewest(reader)) {
    const row = version === 0 ? undefined : reader.get(rowKeyOf(version))
    return row === undefined ? undefined : (unpack(row) as ConfigVersion)
  },
  regionConfigVersion: () => readNewest(reader),
  regionConfigs: () => readVersions(reader),
})
