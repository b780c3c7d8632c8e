import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { randomFillSync } from 'node:crypto'
import { mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { openCatalog } from '../../../core/catalog/catalog.ts'
import { createWriteRegistry } from '../../../core/catalog/write-registry.ts'
import { StorageError } from '../../../core/contract/errors.ts'
import { inlineObject, putCommand, realEnvironment } from '../../kit/catalog-commands.ts'
import { fillDevice } from '../../kit/full-device.ts'

/** In a mount namespace of its own: the catalog of a node alone, on a device of 24 MiB that somebody else fills. */
const [place = ''] = process.argv.slice(2)
execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=24m', 'tmpfs', place])
const directory = join(place, 'catalog')
mkdirSync(directory)
const ballast = join(place, 'ballast')
const registry = createWriteRegistry(realEnvironment)
const { clock } = realEnvironment
const failures: StorageError[] = []
const waits: (string | undefined)[] = []
const open = () =>
  openCatalog({
    directory,
    environment: realEnvironment,
    regionId: 1,
    inlineBytes: 64 * 1024,
    minFreeBytes: 0,
    onFailure: (error) => failures.push(error),
    onWait: (reason) => waits.push(reason),
  })

let catalog = await open()
const bucket = await catalog.submit({ type: 'create-bucket', name: 'photos', owner: 'root' })
const put = (key: string) =>
  catalog.submit(
    putCommand(bucket.id, key, inlineObject(registry.begin(), randomFillSync(new Uint8Array(48_000)))),
  )
const acknowledged = new Set<string>()
const putMany = async (round: string, count: number): Promise<number> => {
  const outcomes = await Promise.allSettled(
    Array.from({ length: count }, async (_, index) => {
      const key = `${round} ${index}`
      await put(key)
      acknowledged.add(key)
    }),
  )
  let refused = 0
  for (const outcome of outcomes) {
    if (outcome.status === 'fulfilled') continue
    refused++
    assert.ok(outcome.reason instanceof StorageError)
    assert.equal(outcome.reason.code, 'INSUFFICIENT_STORAGE')
    assert.match(outcome.reason.message, /no space is left for it in .*catalog.*make room/)
  }
  return refused
}
const check = (): void => {
  for (const key of acknowledged) assert.ok(catalog.object(bucket.id, key) !== undefined, key)
  assert.equal(catalog.stats().objects, acknowledged.size)
}

assert.equal(await putMany('before', 20), 0)
// With 600 KiB less than a batch needs, the write is cut short; with nothing it cannot begin.
for (const [round, leftBytes] of [700_000, 0, 100_000].entries()) {
  fillDevice(ballast, leftBytes)
  const refused = await putMany(`full ${round}`, 40)
  assert.ok(refused > 0, 'the device was not full')
  for (let tried = 0; tried < 20 && (await putMany(`again ${round} ${tried}`, 5)) === 0; tried++);
  check()
  rmSync(ballast)
  // Another thread goes on by itself.
  for (let tried = 0; (await putMany(`after ${round} ${tried}`, 5)) > 0; tried++) {
    assert.ok(tried < 100, 'there is room, and it does not go on')
    await clock.sleep(50)
  }
  check()
}
assert.deepEqual(failures, [])
assert.deepEqual(
  waits.map((reason) => reason !== undefined),
  waits.map((_, index) => index % 2 === 0),
)
assert.ok(waits.length >= 6 && waits.length % 2 === 0, `${waits.length}`)
await catalog.close()
catalog = await open()
check()

// Stopped while it has no room.
fillDevice(ballast, 0)
assert.ok((await putMany('last', 100)) > 0)
await catalog.close()
rmSync(ballast)
catalog = await open()
check()
await catalog.close()
process.stdout.write('went on\n')
