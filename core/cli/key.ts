import { readFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import { text } from 'node:stream/consumers'
import { StorageError } from '../contract/errors.ts'
import type { AdminClient } from '../control/admin-client.ts'
import { connect, type GlobalOptions } from './connect.ts'
import { exitCodes } from './exit-codes.ts'
import { regionIds } from './region-ids.ts'
import { facts, formatTime, type Terminal, table } from './terminal.ts'

export async function listKeys(terminal: Terminal, options: GlobalOptions): Promise<number> {
  using admin = await connect(terminal, options)
  const keys = await admin.listKeys()
  if (options.json === true) terminal.out(`${JSON.stringify({ keys })}\n`)
  else if (keys.length === 0) terminal.out("only the root key: make others with 'pando key create NAME'\n")
  else {
    terminal.out(
      table(
        [
          { title: 'access key' },
          { title: 'account' },
          { title: 'state' },
          { title: 'created' },
          { title: 'regions' },
          { title: 'name' },
        ],
        keys.map(({ accessKeyId, account, enabled, createdMs, name, homeRegion, regions }) => [
          accessKeyId,
          account,
          enabled ? 'enabled' : 'disabled',
          formatTime(createdMs),
          homeRegion >= 0 ? `of ${homeRegion}` : regions.length === 0 ? '-' : `here, ${regions.join(', ')}`,
          name,
        ]),
      ),
    )
  }
  return exitCodes.ok[0]
}

export interface CreateKeyOptions extends GlobalOptions {
  readonly account: string
  readonly accessKey?: string
  readonly secretFile?: string
  readonly regions?: string
}

export async function createKey(terminal: Terminal, options: CreateKeyOptions, name = ''): Promise<number> {
  const regions = options.regions === undefined ? [] : regionIds(options.regions, '--regions')
  const imported = await importedPair(terminal, options)
  using admin = await connect(terminal, options)
  if (regions.length > 0) await refuseWhatIsNotShared(admin, options.account, regions)
  const { key, secretKey } = await admin.createKey({
    name,
    account: options.account,
    ...(imported === undefined ? {} : { imported }),
  })
  if (options.json === true) {
    terminal.out(`${JSON.stringify({ ...key, regions, ...(imported === undefined ? { secretKey } : {}) })}\n`)
  } else {
    terminal.out(
      facts([
        ['Access key', key.accessKeyId],
        ...(imported === undefined ? [['Secret key', `${secretKey}   shown this once`] as const] : []),
        ['Account', key.account],
        ...(regions.length === 0 ? [] : [['Offered to', `regions ${regions.join(', ')}`] as const]),
      ]),
    )
  }
  // After the secret was shown: it would be lost with what is refused here.
  if (regions.length > 0) await admin.sharing.shareKey(key.accessKeyId, regions)
  return exitCodes.ok[0]
}

/** Before the key is made: one that could not be shared would stay behind. INVALID_ARGUMENT. */
async function refuseWhatIsNotShared(
  admin: AdminClient,
  account: string,
  regions: readonly number[],
): Promise<void> {
  if (account === 'root') {
    throw new StorageError(
      'INVALID_ARGUMENT',
      '--regions: keys of the root account stay in their region; name another with --account (it is made with its first key)',
    )
  }
  const { peers } = await admin.federation.status()
  const stranger = regions.find((region) => !peers.some(({ regionId }) => regionId === region))
  if (stranger !== undefined) {
    throw new StorageError(
      'INVALID_ARGUMENT',
      `--regions: this region is not joined with region ${stranger}: see 'pando federation list'`,
    )
  }
}

/** A secret never comes as an argument: every user of the machine can read those. */
async function importedPair(terminal: Terminal, { accessKey, secretFile }: CreateKeyOptions) {
  if (accessKey === undefined && secretFile === undefined) return undefined
  if (accessKey === undefined || secretFile === undefined) {
    throw new StorageError('INVALID_ARGUMENT', '--access-key and --secret-file go together')
  }
  let secret: string
  try {
    secret =
      secretFile === '-'
        ? await text(process.stdin)
        : await readFile(resolve(terminal.workingDirectory, secretFile), 'utf8')
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    throw new StorageError('INVALID_ARGUMENT', `cannot read the secret: ${reason}`, { cause: error })
  }
  return { accessKeyId: accessKey, secretKey: secret.trim() }
}

export async function disableKey(
  terminal: Terminal,
  options: GlobalOptions,
  accessKeyId = '',
): Promise<number> {
  return setEnabled(terminal, options, accessKeyId, false)
}

export async function enableKey(
  terminal: Terminal,
  options: GlobalOptions,
  accessKeyId = '',
): Promise<number> {
  return setEnabled(terminal, options, accessKeyId, true)
}

async function setEnabled(
  terminal: Terminal,
  options: GlobalOptions,
  accessKeyId: string,
  enabled: boolean,
): Promise<number> {
  using admin = await connect(terminal, options)
  const key = await admin.setKeyEnabled(accessKeyId, enabled)
  const state = key.enabled ? 'enabled' : 'disabled'
  terminal.out(
    options.json === true ? `${JSON.stringify(key)}\n` : `${state} access key ${key.accessKeyId}\n`,
  )
  return exitCodes.ok[0]
}
