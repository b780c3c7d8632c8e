import { type FSWatcher, watch } from 'node:fs'
import { mkdir, readdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { Clock } from '../../contract/clock.ts'
import { StorageError } from '../../contract/errors.ts'
import type { Logger } from '../../contract/logger.ts'
import { policyModuleBytesMost } from '../../contract/policy-deployment.ts'
import type { PolicyBackend } from '../../control/policy-backend.ts'

export interface ModuleWatchParts {
  readonly directory: string
  readonly clock: Clock
  readonly log: Logger
  readonly backend: Pick<PolicyBackend, 'push' | 'activate'>
}

export interface ModuleWatch {
  close(): Promise<void>
}

/** A compiler writes a file in several steps: it counts once it has been left alone for so long. */
const debounceMs = 100
const moduleBytes = policyModuleBytesMost
/** Files that may wait at the same time. */
const filesMost = 64

/**
 * Development: what appears or changes in the directory is pushed and activated at once. What is there at the start counts as
 * changed; what is deleted stays deployed. INVALID_CONFIG when the directory cannot be watched.
 */
export async function watchModules(parts: ModuleWatchParts): Promise<ModuleWatch> {
  const { directory, clock, log, backend } = parts
  const closing = new AbortController()
  const waiting = new Map<string, AbortController>()
  const loading = new Set<Promise<void>>()

  function changed(file: string): void {
    if (!file.endsWith('.wasm') || closing.signal.aborted) return
    waiting.get(file)?.abort()
    if (waiting.size >= filesMost && !waiting.has(file)) {
      log.warn({ file }, 'too many policies change at the same time: this one is passed over')
      return
    }
    const again = new AbortController()
    waiting.set(file, again)
    const signal = AbortSignal.any([again.signal, closing.signal])
    const task: Promise<void> = clock
      .sleep(debounceMs, signal)
      .then(
        () => {
          waiting.delete(file)
          return load(file)
        },
        () => undefined,
      )
      .finally(() => loading.delete(task))
    loading.add(task)
  }

  async function load(file: string): Promise<void> {
    try {
      const path = join(directory, file)
      const { size } = await stat(path)
      if (size > moduleBytes) {
        throw new StorageError(
          'POLICY_REFUSED',
          `not fetched: the file has ${size} bytes, more than ${moduleBytes}`,
        )
      }
      const inspection = await backend.push({ wasm: new Uint8Array(await readFile(path)) }, '{}')
      const name = inspection.manifest?.name ?? ''
      await backend.activate({ name, digest: inspection.digest, config: '{}' })
      log.info({ file, policy: name, digest: inspection.digest }, 'the watched policy serves')
    } catch (error) {
      // A deleted file is a change, too.
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return
      log.warn({ file, reason: StorageError.from(error).reason }, 'the watched policy does not serve')
    }
  }

  let watcher: FSWatcher
  try {
    await mkdir(directory, { recursive: true })
    watcher = watch(directory, { persistent: false })
  } catch (error) {
    throw new StorageError(
      'INVALID_CONFIG',
      `policies.watch: ${directory} cannot be watched: ${StorageError.from(error).reason}`,
      { cause: error },
    )
  }
  watcher.on('change', (_, file) => changed(String(file)))
  watcher.on('error', (error) => log.warn({ err: error }, 'the directory of policies is no longer watched'))
  for (const file of await readdir(directory)) changed(file)
  return {
    async close() {
      closing.abort()
      watcher.close()
      await Promise.all(loading)
    },
  }
}
