import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { after, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { numberKey, table } from '../../core/catalog/keys.ts'
import { LmdbTables } from '../../core/catalog/lmdb-tables.ts'
import { MemoryTables } from '../../core/catalog/memory-tables.ts'
import { createReads } from '../../core/catalog/reader.ts'
import { applyEntries, stateHash } from '../../core/catalog/state-machine.ts'
import { rowValue } from '../../core/catalog/tables.ts'
import { verifyRows } from '../../core/catalog/verify.ts'
import { buildPowerLossShim, losePower, powerLossEnvironment } from '../kit/power-loss/power-loss.ts'
import { SeededRandom } from '../simulation/seeded-random.ts'
import { crashBody, numberOf } from './catalog-crash-load.ts'

const root = mkdtempSync(join(tmpdir(), 'pando-catalog-crash-'))
after(() => rmSync(root, { recursive: true, force: true }))
const writer = fileURLToPath(new URL('./catalog-crash-writer.js', import.meta.url))
const seed = Number(process.env['PANDO_TEST_SEED'] ?? Date.now() % 1_000_000)
const rounds = 8

/** What was acknowledged last for a key. */
interface Acknowledged {
  readonly number: number
  readonly deleted: boolean
}

/** Lets the writer work for a while and kills it; notes what it acknowledged. */
async function runAndKill(
  directory: string,
  firstNumber: number,
  liveMs: number,
  acknowledged: Map<string, Acknowledged>,
  environment: Record<string, string> = {},
): Promise<number> {
  const child = spawn(process.execPath, [writer, directory, String(firstNumber)], {
    env: { ...process.env, ...environment },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let count = 0
  const lines = createInterface({ input: child.stdout })
  const exited = once(child, 'exit')
  const [ready] = (await Promise.race([once(lines, 'line'), exited])) as [unknown]
  assert.equal(ready, 'ready', 'the writer starts')
  lines.on('line', (line) => {
    // The kill may have cut the last line.
    const [what, key, number] = line.split(' ')
    if (key === undefined || number === undefined) return
    count++
    acknowledged.set(key, { number: Number(number), deleted: what === 'deleted' })
  })
  await sleep(liveMs)
  child.kill('SIGKILL')
  await exited
  await sleep(0)
  return count
}

/** Opens what is left and holds it against what was acknowledged. The highest number seen is returned. */
async function check(directory: string, acknowledged: ReadonlyMap<string, Acknowledged>): Promise<number> {
  const tables = new LmdbTables({ directory })
  try {
    assert.deepEqual(verifyRows(tables.reader), [])
    const reads = createReads(tables)
    const bucket = reads.bucket('crash')
    assert.ok(bucket !== undefined)
    let highest = 0
    for (const [key, { number, deleted }] of acknowledged) {
      highest = Math.max(highest, number)
      const record = reads.object(bucket.id, key)
      if (record === undefined) {
        // An unanswered delete may have happened: the writer's next operation on the key was one.
        const next = nextNumber(number)
        assert.ok(deleted || next % 7 === 0, `${key}: acknowledged ${number} is gone`)
        continue
      }
      const found = numberOf(record.etag)
      assert.ok(found >= number, `${key}: acknowledged ${number}, found the older ${found}`)
      assert.ok(!deleted || found > number, `${key}: deleted at ${number}, and ${found} is back`)
      assert.ok(record.layout.kind === 'inline')
      assert.deepEqual(
        reads.inlineBody(record.layout.writeId),
        crashBody(found),
        `${key}: the body belongs to the record`,
      )
      highest = Math.max(highest, found)
    }
    // A second replica that applies the same entries in other batches comes to the same state.
    const replica = new MemoryTables()
    const entries: Uint8Array[] = []
    const cursor = tables.rows(numberKey(table.log, 1), Uint8Array.of(table.log + 1))
    while (cursor.next()) entries.push(rowValue(cursor))
    for (let start = 0; start < entries.length; start += 97) {
      const some = entries.slice(start, start + 97)
      replica.transact((changes) => applyEntries(changes, some, { retainEntries: 0 }))
    }
    assert.equal(stateHash(replica), stateHash(tables))
    return highest
  } finally {
    await tables.close()
  }
}

/** The number of the writer's next operation on the same key. */
const nextNumber = (number: number): number => number + 5

test('kill -9 at any moment: what was acknowledged is there, whole, and a replica of the log has the same state', {
  timeout: 240_000,
}, async (t) => {
  t.diagnostic(`seed ${seed}: repeat with PANDO_TEST_SEED=${seed}`)
  const random = new SeededRandom(seed)
  const directory = join(root, 'killed')
  const acknowledged = new Map<string, Acknowledged>()
  let first = 1
  let total = 0
  for (let round = 0; round < rounds; round++) {
    total += await runAndKill(directory, first, 20 + random.below(400), acknowledged)
    first = (await check(directory, acknowledged)) + 100
  }
  t.diagnostic(`${total} acknowledged changes, ${rounds} kills`)
  assert.ok(total > rounds * 10, `only ${total} changes were acknowledged: the test shows nothing`)
})

const hasCompiler = (() => {
  try {
    execFileSync('cc', ['--version'], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
})()

test('power loss at any moment: what was acknowledged had reached the disk, and nothing else is torn', {
  timeout: 240_000,
  skip: hasCompiler ? false : 'no C compiler: the preloaded shim cannot be built',
}, async (t) => {
  t.diagnostic(`seed ${seed}: repeat with PANDO_TEST_SEED=${seed}`)
  const random = new SeededRandom(seed)
  const library = buildPowerLossShim(join(process.cwd(), 'test/kit/power-loss/shim.c'))
  const directory = join(root, 'power')
  const journal = join(root, 'power.journal')
  mkdirSync(directory)
  try {
    const acknowledged = new Map<string, Acknowledged>()
    let first = 1
    let total = 0
    let volatilePages = 0
    for (let round = 0; round < rounds; round++) {
      const environment = powerLossEnvironment(library, directory, journal)
      total += await runAndKill(directory, first, 20 + random.below(400), acknowledged, environment)
      volatilePages += (await losePower(journal, () => random.next())).volatilePages
      rmSync(join(directory, 'lock.mdb'), { force: true })
      first = (await check(directory, acknowledged)) + 100
    }
    t.diagnostic(
      `${total} acknowledged changes, ${rounds} power losses, ${volatilePages} pages not yet durable`,
    )
    assert.ok(total > rounds * 10, `only ${total} changes were acknowledged: the test shows nothing`)
  } finally {
    rmSync(library, { force: true })
  }
})
