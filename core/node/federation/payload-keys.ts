import { readFile, stat } from 'node:fs/promises'
import type { Environment } from '../../contract/clock.ts'
import { StorageError } from '../../contract/errors.ts'
import type { Logger } from '../../contract/logger.ts'
import type { StreamSeal } from '../../contract/tunnel.ts'
import type { NodeConfig } from '../config/schema.ts'
import { type PayloadKeys, payloadSeal } from './payload-seal.ts'

const keyPattern = /^[0-9a-f]{64}$/i
/** Two while a key is changed. */
const mostKeys = 4
/** Between two lines about a region that has another key. */
const complainEveryMs = 60_000

export interface PayloadKeyParts {
  readonly config: Pick<NodeConfig, 'regionId' | 'tunnel'>
  readonly environment: Environment
  readonly log: Logger
}

/** By `tunnel.payloadKeys`: what the streams to and from these regions are sealed with. INVALID_CONFIG. */
export async function openPayloadSeals({
  config,
  environment,
  log,
}: PayloadKeyParts): Promise<ReadonlyMap<number, StreamSeal>> {
  const seals = new Map<number, StreamSeal>()
  for (const [region, path] of Object.entries(config.tunnel.payloadKeys)) {
    const regionId = Number(region)
    let complainedMs = Number.NEGATIVE_INFINITY
    const seal = payloadSeal({
      ...{ keys: await readKeys(path, `tunnel.payloadKeys.${region}`), regionId },
      ...{ ownRegionId: config.regionId, randomness: environment.randomness },
      onStranger() {
        if (environment.clock.monotonic() - complainedMs < complainEveryMs) return
        complainedMs = environment.clock.monotonic()
        log.warn(
          { region: regionId },
          'a region seals what it sends with another key than that of tunnel.payloadKeys, or not at all: it is refused',
        )
      },
    })
    seals.set(regionId, seal)
  }
  return seals
}

async function readKeys(path: string, key: string): Promise<PayloadKeys> {
  let text: string
  try {
    const [read, { mode }] = await Promise.all([readFile(path, 'utf8'), stat(path)])
    if ((mode & 0o007) !== 0) {
      throw new StorageError(
        'INVALID_CONFIG',
        `${key}: everybody on this machine may read ${path}: chmod 600 ${path}`,
      )
    }
    text = read
  } catch (error) {
    if (error instanceof StorageError) throw error
    const reason = error instanceof Error ? error.message : String(error)
    throw new StorageError('INVALID_CONFIG', `${key}: cannot read ${path}: ${reason}`, { cause: error })
  }
  const lines = text.split('\n').map((line) => line.trim())
  const keys = lines
    .filter((line) => line !== '')
    .map((line) => {
      if (keyPattern.test(line)) return Uint8Array.from(Buffer.from(line, 'hex'))
      throw new StorageError(
        'INVALID_CONFIG',
        `${key}: ${path} has 64 hexadecimal digits in each line, as 'openssl rand -hex 32' makes them`,
      )
    })
  const [first, ...others] = keys
  if (first === undefined || keys.length > mostKeys) {
    throw new StorageError('INVALID_CONFIG', `${key}: ${path} has 1 to ${mostKeys} keys`)
  }
  return [first, ...others]
}
