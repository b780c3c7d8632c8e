import { createHash } from 'node:crypto'
import { chmod, mkdir, readdir, readFile, stat } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import { z } from 'zod'
import { makeAccessKeys } from '../cluster/keys/access-keys.ts'
import type { Randomness } from '../contract/clock.ts'
import { StorageError } from '../contract/errors.ts'
import type { RootKeys } from './config/load.ts'
import { type DirectoryLock, lockDirectory } from './directory-lock.ts'
import { writeDurably } from './durable-file.ts'
import { regionKeyName } from './links/region-key.ts'
import { openSocketDirectory, type SocketDirectory } from './socket-directory.ts'

/** Grows when an older program could misread the directory. */
const formatVersion = 1

const formatSchema = z.object({
  product: z.literal('pando'),
  format: z.int().min(1),
  createdBy: z.string(),
  regionId: z.int(),
  /** First 16 hex digits of SHA-256 of the sealing key: a lost or foreign key is noticed before a secret is. */
  sealingKeyCheck: z.string(),
})

const rootKeySchema = z.object({ accessKeyId: z.string().min(3), secretKey: z.string().min(8) })

/** Files that a start that was cut short may have left; with anything else in it, a directory is not ours. */
const ownNames = new Set([
  'lock',
  'sealing-key',
  'root-key.json',
  // Put there before the first start, so that the node joins its region.
  regionKeyName,
  'format.json',
  'lost+found',
])

export interface DataDirectory extends Contents, AsyncDisposable {
  readonly sockets: SocketDirectory
  /** Gives the lock back; once. */
  close(): Promise<void>
}

interface Contents {
  readonly path: string
  readonly catalogPath: string
  readonly chunksPath: string
  /** 32 bytes. */
  readonly sealingKey: Uint8Array
  readonly rootKeys: RootKeys
  /** Where the root keys are from; `generated` only in the run that made them. */
  readonly rootKeysFrom: 'environment' | 'generated' | 'file' | 'region'
}

export interface OpenDataDirectory {
  readonly path: string
  readonly regionId: number
  readonly version: string
  readonly randomness: Randomness
  readonly rootKeys: RootKeys | undefined
  /** What the region shares (32 bytes and the root keys): kept in the directory by nobody but the region's keys. */
  readonly shared?: { readonly sealingKey: Uint8Array; readonly rootKeys: RootKeys }
}

/**
 * Makes the directory when it is missing (0700), takes its lock, checks its format and reads its keys. `format.json` is
 * written last: a directory without it was never finished and is finished now. ALREADY_OPEN, UNSUPPORTED_FORMAT.
 */
export async function openDataDirectory(options: OpenDataDirectory): Promise<DataDirectory> {
  const path = resolve(options.path)
  await makePrivate(path)
  const sockets = openSocketDirectory(path)
  let lock: DirectoryLock | undefined
  const close = async (): Promise<void> => {
    await lock?.release()
    sockets.close()
  }
  try {
    lock = await lockDirectory(path, sockets)
    return { ...(await readOrMake(path, options)), sockets, close, [Symbol.asyncDispose]: close }
  } catch (error) {
    await close()
    throw error
  }
}

async function readOrMake(path: string, options: OpenDataDirectory): Promise<Contents> {
  const sealingKeyPath = join(path, 'sealing-key')
  const rootKeyPath = join(path, 'root-key.json')
  const formatPath = join(path, 'format.json')

  const formatText = await readIfThere(formatPath)
  let sealingKey = options.shared?.sealingKey ?? decodeSealingKey(await readIfThere(sealingKeyPath))
  if (formatText === undefined) {
    await refuseForeignFiles(path)
    if (sealingKey === undefined) {
      sealingKey = options.randomness.fill(new Uint8Array(32))
      await writeDurably(sealingKeyPath, `${Buffer.from(sealingKey).toString('base64')}\n`)
    }
    const format: z.output<typeof formatSchema> = {
      product: 'pando',
      format: formatVersion,
      createdBy: options.version,
      regionId: options.regionId,
      sealingKeyCheck: checkOf(sealingKey),
    }
    await writeDurably(formatPath, `${JSON.stringify(format, null, 2)}\n`)
  } else {
    const format = parseFormat(formatText, formatPath)
    if (format.regionId !== options.regionId) {
      throw new StorageError(
        'INVALID_CONFIG',
        `regionId is ${options.regionId}, but ${path} belongs to region ${format.regionId}; version ids carry the ` +
          'number, so it cannot change',
      )
    }
    if (
      sealingKey !== undefined &&
      options.shared !== undefined &&
      checkOf(sealingKey) !== format.sealingKeyCheck
    ) {
      throw new StorageError(
        'INVALID_CONFIG',
        `${path} was made with another sealing key than the one among the keys of the region: the secrets of its access keys ` +
          'cannot be read with it; start with an empty data directory',
      )
    }
    if (sealingKey === undefined || checkOf(sealingKey) !== format.sealingKeyCheck) {
      throw new StorageError(
        'UNSUPPORTED_FORMAT',
        `${sealingKeyPath} is ${sealingKey === undefined ? 'missing or damaged' : 'not the key of this directory'}: ` +
          'the secrets of access keys cannot be read without it; restore the file from a backup',
      )
    }
  }

  const { keys, from } = await rootKeys(rootKeyPath, options)
  return {
    path,
    catalogPath: join(path, 'catalog'),
    chunksPath: join(path, 'chunks'),
    sealingKey,
    rootKeys: keys,
    rootKeysFrom: from,
  }
}

/**
 * The number and the keys of a data directory that a node made for itself, without opening it. `rootKeys` are undefined where the
 * environment gives them. INVALID_CONFIG when there is none, UNSUPPORTED_FORMAT when it is damaged.
 */
export async function readDataKeys(path: string): Promise<{
  readonly regionId: number
  readonly sealingKey: Uint8Array
  readonly rootKeys: RootKeys | undefined
}> {
  const formatPath = join(path, 'format.json')
  const text = await readIfThere(formatPath)
  if (text === undefined) {
    throw new StorageError('INVALID_CONFIG', `${path} is no data directory of Pando: it has no format.json`)
  }
  const format = parseFormat(text, formatPath)
  const sealingKey = decodeSealingKey(await readIfThere(join(path, 'sealing-key')))
  if (sealingKey === undefined || checkOf(sealingKey) !== format.sealingKeyCheck) {
    throw new StorageError(
      'UNSUPPORTED_FORMAT',
      `${join(path, 'sealing-key')} is missing or not the key of this directory: a node of a cluster has none of its own`,
    )
  }
  const rootKeyPath = join(path, 'root-key.json')
  const rootText = await readIfThere(rootKeyPath)
  return {
    regionId: format.regionId,
    sealingKey,
    rootKeys: rootText === undefined ? undefined : parseRootKeys(rootText, rootKeyPath),
  }
}

function parseRootKeys(text: string, path: string): RootKeys {
  try {
    return rootKeySchema.parse(JSON.parse(text))
  } catch {
    // No cause: a parser's message may quote the secret.
    throw new StorageError(
      'UNSUPPORTED_FORMAT',
      `${path} is damaged; restore it, or remove it to have new root keys generated`,
    )
  }
}

/**
 * Like `mkdir -p`. Node's own `recursive` tries for ever where a directory that is there says ENOENT (/proc, autofs), and no signal
 * ends that: here nothing is tried twice after its parent was made.
 */
async function makeDirectories(path: string): Promise<void> {
  const make = (directory: string): Promise<void> =>
    mkdir(directory, { mode: 0o700 }).catch((error: unknown) => {
      if (codeOf(error) !== 'EEXIST') throw error
    })
  try {
    await make(path)
  } catch (error) {
    if (codeOf(error) !== 'ENOENT' || dirname(path) === path) throw error
    await makeDirectories(dirname(path))
    await make(path)
  }
}

const codeOf = (error: unknown): unknown =>
  error instanceof Error && 'code' in error ? error.code : undefined

async function makePrivate(path: string): Promise<void> {
  try {
    await makeDirectories(path)
    const info = await stat(path)
    if (!info.isDirectory()) throw new StorageError('INVALID_CONFIG', `data: ${path} is not a directory`)
    // Keys and objects are inside: nobody else may look, even where the directory existed before.
    if ((info.mode & 0o077) !== 0) await chmod(path, 0o700)
  } catch (error) {
    if (error instanceof StorageError) throw error
    const reason = error instanceof Error ? error.message : String(error)
    throw new StorageError('INVALID_CONFIG', `data: cannot use ${path}: ${reason}`, { cause: error })
  }
}

async function refuseForeignFiles(path: string): Promise<void> {
  for (const name of await readdir(path)) {
    if (ownNames.has(name) || name.startsWith('lock.') || name.endsWith('.new')) continue
    throw new StorageError(
      'UNSUPPORTED_FORMAT',
      `${path} is not empty and not a Pando data directory (it holds '${name}' and no format.json); choose another one`,
    )
  }
}

function parseFormat(text: string, path: string): z.output<typeof formatSchema> {
  const version = formatVersionIn(text)
  if (version !== undefined && version !== formatVersion) {
    throw new StorageError(
      'UNSUPPORTED_FORMAT',
      `${path} says format ${version}; this program reads format ${formatVersion}: use the version of Pando that wrote it`,
    )
  }
  try {
    return formatSchema.parse(JSON.parse(text))
  } catch (error) {
    throw new StorageError('UNSUPPORTED_FORMAT', `${path} is damaged; restore it from a backup`, {
      cause: error,
    })
  }
}

function formatVersionIn(text: string): number | undefined {
  try {
    const value: unknown = JSON.parse(text)
    if (
      typeof value === 'object' &&
      value !== null &&
      'format' in value &&
      typeof value.format === 'number'
    ) {
      return value.format
    }
  } catch {
    // Told by the caller as damage.
  }
  return undefined
}

async function rootKeys(
  path: string,
  options: OpenDataDirectory,
): Promise<{ keys: RootKeys; from: DataDirectory['rootKeysFrom'] }> {
  if (options.rootKeys !== undefined) return { keys: options.rootKeys, from: 'environment' }
  if (options.shared !== undefined) return { keys: options.shared.rootKeys, from: 'region' }
  const text = await readIfThere(path)
  if (text !== undefined) return { keys: parseRootKeys(text, path), from: 'file' }
  const keys = makeAccessKeys(options.randomness)
  await writeDurably(path, `${JSON.stringify(keys, null, 2)}\n`)
  return { keys, from: 'generated' }
}

function decodeSealingKey(text: string | undefined): Uint8Array | undefined {
  const key = text === undefined ? undefined : new Uint8Array(Buffer.from(text.trim(), 'base64'))
  return key?.length === 32 ? key : undefined
}

function checkOf(sealingKey: Uint8Array): string {
  return createHash('sha256').update('pando sealing key check').update(sealingKey).digest('hex').slice(0, 16)
}

/** Undefined: there is no such file. */
export async function readIfThere(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined
    throw error
  }
}
