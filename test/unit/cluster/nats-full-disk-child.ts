import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { openNatsOrderStreams } from '../../../core/cluster/nats/order-streams.ts'
import { StorageError } from '../../../core/contract/errors.ts'
import { silentLogger } from '../../../core/contract/logger.ts'
import { fillDevice } from '../../kit/full-device.ts'
import { startNatsRegion } from '../../kit/nats-region.ts'

/** In namespaces of its own: a nats-server whose disk somebody else fills. */
const [place = ''] = process.argv.slice(2)
execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=96m', 'tmpfs', place])
execFileSync('ip', ['link', 'set', 'lo', 'up'])
process.env['TMPDIR'] = place
const ballast = join(place, 'ballast')
const ends: (() => Promise<void>)[] = []
const region = await startNatsRegion((run) => ends.push(run), 1, 'independent')
const [only] = region.places
assert.ok(only)
const client = region.clientOf(0)
await client.connected(10_000)
const { realEnvironment } = await import('../../../core/node/environment.ts')
const streams = openNatsOrderStreams({
  client,
  serverCount: 1,
  environment: realEnvironment,
  log: silentLogger,
  timeoutMs: 500,
})
const never = new AbortController().signal
const until = async (what: string, holds: () => boolean | Promise<boolean>): Promise<void> => {
  for (let tried = 0; !(await holds()); tried++) {
    assert.ok(tried < 400, what)
    await sleep(50)
  }
}
const publish = async (): Promise<'taken' | 'refused'> => {
  try {
    await (await streams.open('log', never)).publish(new Uint8Array(100_000), never)
    return 'taken'
  } catch (reason) {
    assert.ok(reason instanceof StorageError, String(reason))
    return 'refused'
  }
}

await streams.create('log', never)
assert.equal(await publish(), 'taken')
fillDevice(ballast)
await until('a record is taken on a full disk', async () => (await publish()) === 'refused')
await until('nobody is told', () => only.server?.status().state === 'no room')
rmSync(ballast)
await until('it does not run again', () => only.server?.status().state === 'running')
// What the stream lost is for the voters to find out: here it is enough that the server keeps streams again.
await until('it keeps no streams', async () => {
  try {
    await (await streams.create('next', never)).publish(new Uint8Array(100_000), never)
    return true
  } catch {
    return false
  }
})
process.stdout.write('it orders again\n')

// A start on a full disk is no reason to end: others order meanwhile.
await only.server?.close()
fillDevice(ballast)
await only.start()
await until('nobody is told', () => only.server?.status().state === 'no room')
rmSync(ballast)
await until('it does not start', () => only.server?.status().state === 'running')
await until('it keeps no streams', async () => {
  try {
    await streams.create('last', never)
    return true
  } catch {
    return false
  }
})
await streams.close()
for (const end of ends) await end()
process.stdout.write('it started late\n')
