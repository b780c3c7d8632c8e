import { StorageError } from '../contract/errors.ts'
import type { LockFence, LockReads, LockRecord } from '../contract/locks.ts'
import { pack, unpack } from './encoding.ts'
import { encodeText, table, tableKey } from './keys.ts'
import { rowKey, rowValue, type TableReader, type TableWriter } from './tables.ts'

type PackedLock = [owner: string, token: number, renewed: number, givenMs: number, renewedMs: number]

const lockKey = (name: string): Buffer => tableKey(table.lock, encodeText(name))

function decodeLock(name: string, row: Uint8Array): LockRecord {
  const [owner, token, renewed, givenMs, renewedMs] = unpack(row) as PackedLock
  return { name, owner, token, renewed, givenMs, renewedMs }
}

export function readLock(reader: Pick<TableReader, 'get'>, name: string): LockRecord | undefined {
  const row = reader.get(lockKey(name))
  return row === undefined ? undefined : decodeLock(name, row)
}

export function writeLock(writer: TableWriter, lock: LockRecord): void {
  const { name, owner, token, renewed, givenMs, renewedMs } = lock
  const packed: PackedLock = [owner, token, renewed, givenMs, renewedMs]
  writer.put(lockKey(name), pack(packed))
}

export function removeLock(writer: TableWriter, name: string): void {
  writer.remove(lockKey(name))
}

export function readLocks(reader: Pick<TableReader, 'rows'>): LockRecord[] {
  const locks: LockRecord[] = []
  const cursor = reader.rows(Uint8Array.of(table.lock), Uint8Array.of(table.lock + 1))
  while (cursor.next()) {
    locks.push(decodeLock(Buffer.from(rowKey(cursor)).toString('utf8', 1), rowValue(cursor)))
  }
  cursor.close()
  return locks
}

export const createLockReads = (reader: TableReader): LockReads => ({
  lock: (name) => readLock(reader, name),
  locks: () => readLocks(reader),
})

/** CONFLICT when somebody else has had the lock since. */
export function checkLock(reader: Pick<TableReader, 'get'>, { name, token }: LockFence): LockRecord {
  const lock = readLock(reader, name)
  if (lock?.token === token) return lock
  throw new StorageError(
    'CONFLICT',
    lock === undefined
      ? `the lock ${name} has been given up: token ${token} counts no more`
      : `${lock.owner} has the lock ${name} now: token ${token} counts no more`,
  )
}
