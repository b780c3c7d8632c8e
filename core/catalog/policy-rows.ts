import { createHash } from 'node:crypto'
import type { PolicyPackageRecord } from '../contract/catalog.ts'
import type { PolicyDeployment, PolicyPackage, PolicySignature } from '../contract/policy-deployment.ts'
import { bytesOf, pack, unpack } from './encoding.ts'
import { successor, table, tableKey } from './keys.ts'
import { rowKey, rowValue, type TableReader, type TableWriter } from './tables.ts'

/** What a region keeps of policies at most: with all bounds reached, 208 modules and a record of a few MiB. */
export const policyLimits = {
  moduleBytes: 1 << 20,
  /** UTF-16 units of the JSON that a version is configured with. */
  configChars: 16_384,
  policies: 16,
  versions: 2,
  history: 10,
  /** Packages that no deployment names: pushed and not activated yet, or out of every history. */
  sparePackages: 16,
} as const

/** Of `policyPackage`. */
export interface PolicyPackageRow extends Omit<PolicyPackageRecord, 'signedBy'> {
  readonly signature?: PolicySignature
}

const epochKey = tableKey(table.policyDeployment, Uint8Array.of(0))
const recordKey = tableKey(table.policyDeployment, Uint8Array.of(1))
const digestBytes = (digest: string): Uint8Array => Buffer.from(digest, 'hex')
export const policyPackageKey = (digest: string): Uint8Array =>
  tableKey(table.policyPackage, digestBytes(digest))
export const policyModuleKey = (digest: string): Uint8Array =>
  tableKey(table.policyModule, digestBytes(digest))

export const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex')

/** Six bytes beside the record, so that a follower can ask after every commit. */
export function readEpoch(reader: TableReader): number {
  const row = reader.get(epochKey)
  return row === undefined ? 0 : Buffer.from(row.buffer, row.byteOffset, row.length).readUIntBE(0, 6)
}

export function readDeployment(reader: TableReader): PolicyDeployment {
  const row = reader.get(recordKey)
  return row === undefined ? { epoch: 0, policies: [] } : (unpack(row) as PolicyDeployment)
}

export function writeDeployment(writer: TableWriter, deployment: PolicyDeployment): void {
  const epoch = Buffer.alloc(6)
  epoch.writeUIntBE(deployment.epoch, 0, 6)
  writer.put(epochKey, epoch)
  writer.put(recordKey, pack(deployment))
}

export function writePackage(writer: TableWriter, row: PolicyPackageRow, wasm: Uint8Array): void {
  const { digest, ...fields } = row
  writer.put(policyPackageKey(digest), pack(fields))
  writer.put(policyModuleKey(digest), wasm)
}

export function removePackage(writer: TableWriter, digest: string): void {
  writer.remove(policyPackageKey(digest))
  writer.remove(policyModuleKey(digest))
}

export function hasPackage(reader: TableReader, digest: string): boolean {
  return reader.get(policyPackageKey(digest)) !== undefined
}

export function readPackage(reader: TableReader, digest: string): PolicyPackage | undefined {
  if (!/^[0-9a-f]{64}$/.test(digest)) return undefined
  const row = reader.get(policyPackageKey(digest))
  const wasm = reader.get(policyModuleKey(digest))
  if (row === undefined || wasm === undefined) return undefined
  const { signature } = unpack(row) as PolicyPackageRow
  return { wasm: bytesOf(wasm), ...(signature === undefined ? {} : { signature }) }
}

/** Ascending by digest; at most as many as the limits allow. */
export function readPackageRows(reader: TableReader): PolicyPackageRow[] {
  const rows: PolicyPackageRow[] = []
  const prefix = Uint8Array.of(table.policyPackage)
  const cursor = reader.rows(prefix, successor(prefix))
  while (cursor.next()) {
    const digest = Buffer.from(rowKey(cursor).subarray(1)).toString('hex')
    rows.push({ ...(unpack(rowValue(cursor)) as Omit<PolicyPackageRow, 'digest'>), digest })
  }
  return rows
}

/** Everything that a deployment may come to need: what serves, and where rollbacks go. */
export function namedDigests(deployment: PolicyDeployment): Set<string> {
  return new Set(
    deployment.policies.flatMap(({ versions, history }) =>
      [...versions, ...history].map(({ digest }) => digest),
    ),
  )
}
