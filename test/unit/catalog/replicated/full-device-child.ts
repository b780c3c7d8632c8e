import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { randomFillSync } from 'node:crypto'
import { mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { encodeEntry, entryRandomBytes } from '../../../../core/catalog/entry.ts'
import { LmdbReplicaStore } from '../../../../core/catalog/replicated/lmdb-replica-store.ts'
import { createWriteRegistry } from '../../../../core/catalog/write-registry.ts'
import { StorageError } from '../../../../core/contract/errors.ts'
import { inlineObject, putCommand, realEnvironment } from '../../../kit/catalog-commands.ts'
import { fillDevice } from '../../../kit/full-device.ts'

/** In a mount namespace of its own: a store on a device of 24 MiB. */
const [place = ''] = process.argv.slice(2)
execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=24m', 'tmpfs', place])
const directory = join(place, 'catalog')
mkdirSync(directory)
const ballast = join(place, 'ballast')
const { clock } = realEnvironment
const registry = createWriteRegistry(realEnvironment)
const session = randomFillSync(new Uint8Array(8))
let sequence = 0

const entryOf = (byteLength: number): Uint8Array =>
  encodeEntry({
    session,
    sequence: ++sequence,
    nowMs: clock.now(),
    regionId: 1,
    random: randomFillSync(new Uint8Array(entryRandomBytes)),
    command: putCommand(
      1,
      `key ${sequence}`,
      inlineObject(registry.begin(), randomFillSync(new Uint8Array(byteLength))),
    ),
  })
const record = (number: number, entries = 40) => ({
  records: [{ sequence: number, entries: Array.from({ length: entries }, () => entryOf(4000)) }],
})

const waits: (string | undefined)[] = []
const open = (): Promise<LmdbReplicaStore> =>
  LmdbReplicaStore.open({
    directory,
    retainEntries: 1e6,
    minFreeBytes: 0,
    incarnation: '0'.repeat(32),
    clock,
    onWait: (reason) => waits.push(reason),
  })

async function until(what: string, condition: () => boolean): Promise<void> {
  for (let waited = 0; !condition(); waited += 10) {
    assert.ok(waited < 20_000, what)
    await clock.sleep(10)
  }
}

const store = await open()
await store.change(record(1))
const before = { position: store.position, chain: store.chain }
fillDevice(ballast)
let isDone = false
const change = record(2, 200)
const changing = store.change(change).then((applied) => {
  isDone = true
  return applied
})
await until('nothing waits for room', () => store.waitsFor !== undefined)
// What it has it still gives, and it has nothing of what did not fit.
await clock.sleep(700)
assert.equal(isDone, false)
assert.equal(store.position, before.position)
assert.deepEqual(store.chainAt(store.position), before.chain)
assert.equal(store.logBehind(0, before.position, 1 << 20).length, 1)
rmSync(ballast)
const applied = await changing
assert.equal(applied.length, 200)
assert.equal(store.position, before.position + 200)
assert.equal(store.waitsFor, undefined)
assert.deepEqual(
  waits.map((reason) => reason !== undefined),
  [true, false],
)
assert.match(waits[0] ?? '', /no space is left for it in .*catalog.*make room/)
await store.change(record(3, 1))
const { position, chain } = store
await store.close()

// Whoever is stopped while it waits stops, and has what it had.
const again = await open()
assert.deepEqual([again.position, again.chain], [position, chain])
// A part of it fits: LMDB takes the device for broken, and it is only full.
fillDevice(ballast, 300_000)
const failing = again.change(record(4, 200))
await until('nothing waits for room', () => again.waitsFor !== undefined)
again.giveUp()
await assert.rejects(failing, (error) => error instanceof StorageError && error.code === 'CLOSED')
await again.close()
rmSync(ballast)
const last = await open()
assert.deepEqual([last.position, last.chain], [position, chain])
await last.close()
process.stdout.write('went on\n')
