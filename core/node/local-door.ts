import type { Environment } from '../contract/clock.ts'
import type { Logger } from '../contract/logger.ts'
import type { LocalDoor } from '../gateway/s3/local/local-door.ts'
import type { NodeConfig } from './config/schema.ts'

/** The door for applications on this machine; undefined: none is configured. INVALID_CONFIG. */
export async function openLocalDoor(
  { s3 }: NodeConfig,
  environment: Environment,
  log: Logger,
): Promise<LocalDoor | undefined> {
  const { directory, memory } = s3.local
  if (directory === '') return undefined
  const { LocalDoor } = await import('../gateway/s3/local/local-door.ts')
  return LocalDoor.open({
    directory,
    memoryBytes: memory,
    idleTimeoutMs: s3.idleTimeout,
    environment,
    log: log.child({ part: 's3' }),
  })
}
