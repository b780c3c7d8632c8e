import { createHash } from 'node:crypto'
import type { KeyStore } from '../../../federation/sharing/ports.ts'
import { checkCommand } from '../../catalog/entry-schema.ts'
import { foreignAccount } from '../../contract/accounts.ts'
import type { Catalog } from '../../contract/catalog.ts'
import { StorageError } from '../../contract/errors.ts'
import type { AccessKeyRecord } from '../../contract/object-model.ts'
import { sharingLimits } from '../../contract/sharing.ts'
import type { SecretSealer } from '../sealed-secrets.ts'

export interface SharedKeysParts {
  readonly catalog: Pick<Catalog, 'accessKey' | 'accessKeys' | 'barrier' | 'submit'>
  readonly sealer: SecretSealer
  /** No other region's key has this id. */
  readonly rootAccessKeyId: string
}

/**
 * Access keys that several regions know. A secret is sealed with the key of the region that has it, wherever it is kept; in the clear it is
 * in the memory of the two processes and in the tunnel between them, and nowhere else.
 */
export function createSharedKeys({ catalog, sealer, rootAccessKeyId }: SharedKeysParts): KeyStore {
  const givenTo = (region: number): readonly AccessKeyRecord[] =>
    catalog
      .accessKeys()
      .filter(({ home, regions }) => home === undefined && regions?.includes(region) === true)

  /** Of a key that came: whether it is here already, secret included. Only who holds the sealing key can tell. */
  function isKnown(known: AccessKeyRecord | undefined, came: AccessKeyRecord, secretKey: string): boolean {
    if (known === undefined) return false
    const { account, name, enabled, createdMs } = known
    return (
      account === came.account &&
      name === came.name &&
      enabled === came.enabled &&
      createdMs === came.createdMs &&
      secretOf(known) === secretKey
    )
  }

  /** undefined: damaged, and to be written again. */
  function secretOf({ accessKeyId, sealedSecret }: AccessKeyRecord): string | undefined {
    try {
      return sealer.unseal(accessKeyId, sealedSecret)
    } catch {
      return undefined
    }
  }

  return {
    given() {
      const sets = new Map<number, AccessKeyRecord[]>()
      for (const record of catalog.accessKeys()) {
        if (record.home !== undefined) continue
        for (const region of record.regions ?? []) {
          const set = sets.get(region)
          if (set === undefined) sets.set(region, [record])
          else set.push(record)
        }
      }
      return new Map(
        [...sets].map(([region, records]) => [region, { digest: digestOf(records), count: records.length }]),
      )
    },

    async for(region) {
      // A node that is behind the others of its region must not give back what they have revoked.
      await catalog.barrier('rules')
      const records = givenTo(region)
      const keys = records.flatMap((record) => {
        const { accessKeyId, account, name, enabled, createdMs } = record
        const secretKey = secretOf(record)
        // A damaged one is no good here either, and keeps nobody from hearing of the others.
        return secretKey === undefined ? [] : [{ accessKeyId, account, name, enabled, createdMs, secretKey }]
      })
      return { digest: digestOf(records), keys }
    },

    async take(home, keys) {
      await catalog.barrier('rules')
      const taken = keys.filter(({ accessKeyId }) => accessKeyId !== rootAccessKeyId)
      const records = taken.map(({ secretKey, account, ...told }) => {
        const came = { ...told, account: foreignAccount(account, home), sealedSecret: new Uint8Array(0) }
        const known = catalog.accessKey(told.accessKeyId)
        const isSame = known?.home === home && isKnown(known, came, secretKey)
        const sealedSecret = isSame ? known.sealedSecret : sealer.seal(told.accessKeyId, secretKey)
        return { record: { ...came, sealedSecret }, isSame }
      })
      const atRoot = keys.length === taken.length ? [] : [rootAccessKeyId]
      // Every question after a start would be an entry of the log otherwise.
      if (records.every(({ isSame }) => isSame) && records.length === takenOf(home))
        return { refused: atRoot }
      const all = records.map(({ record }) => record)
      const command = { type: 'take-access-keys', home, keys: all } as const
      checkCommand(command)
      const { refused } = await catalog.submit(command)
      return { refused: [...atRoot, ...refused] }
    },

    takenOf,

    async share(accessKeyId, regions) {
      if (accessKeyId === rootAccessKeyId) {
        throw new StorageError('INVALID_ARGUMENT', 'the root key is no other region’s business')
      }
      for (const region of regions) {
        const others = givenTo(region).filter((record) => record.accessKeyId !== accessKeyId)
        if (others.length < sharingLimits.keys) continue
        throw new StorageError(
          'INVALID_ARGUMENT',
          `region ${region} knows ${others.length} keys of this one: that is all that it takes`,
        )
      }
      const command = { type: 'share-access-key', accessKeyId, regions } as const
      checkCommand(command)
      await catalog.submit(command)
    },
  }

  function takenOf(home: number): number {
    return catalog.accessKeys().filter((record) => record.home === home).length
  }
}

/** Changes when one of the keys does; empty for none. Another secret has another seal: it says nothing of it but that. */
function digestOf(records: readonly AccessKeyRecord[]): string {
  if (records.length === 0) return ''
  const hash = createHash('sha256')
  for (const { accessKeyId, account, name, enabled, createdMs, sealedSecret } of records) {
    const seal = Buffer.from(sealedSecret).toString('hex')
    hash.update(`${JSON.stringify([accessKeyId, account, name, enabled, createdMs, seal])}\n`)
  }
  return hash.digest('hex')
}
