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
import { crashBody, isDelete, numberOf } from './catalog-crash-load.ts'

const root = mkdtempSync(join(tmpdir(), 'pando-catalog-crash-'))
after(() => rmSync(root, { recursive: true, force: true }))
const writer = fileURLToPath(new URL('./catalog-crash-writer.js', import.meta.url))
const seed = Number(process.env['PANDO_TEST_SEED'] ?? Date.now() % 1_000_000)
const rounds = 6

/** What a key may hold: operations by their numbers, 0 for none yet. */
interface KeyHistory {
  /** The last operation known to have happened. */
  acknowledged: number
  /** The one after it, when it was not answered: it may have happened or not. */
  tried: number | undefined
}

/** Lets the writer work until so many changes were acknowledged, then a little more, and kills it. */
async function runAndKill(
  directory: string,
  firstNumber: number,
  random: SeededRandom,
  keys: Map<string, KeyHistory>,
  environment: Record<string, string> = {},
): Promise<number> {
  const child = spawn(process.execPath, [writer, directory, String(firstNumber)], {
    env: { ...process.env, ...environment },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const wanted = 10 + random.below(150)
  let count = 0
  let enough = (): void => {}
  const reached = new Promise<void>((resolve) => {
    enough = resolve
  })
  const lines = createInterface({ input: child.stdout })
  const ended = once(lines, 'close')
  const exited = once(child, 'exit')
  lines.on('line', (line) => {
    // The kill may have cut the last line.
    const [what, key, number] = line.split(' ')
    if (key === undefined || number === undefined) return
    const history = keys.get(key) ?? { acknowledged: 0, tried: undefined }
    keys.set(key, history)
    if (what === 'try') history.tried = Number(number)
    if (what !== 'ack' || history.tried !== Number(number)) return
    history.acknowledged = Number(number)
    history.tried = undefined
    if (++count === wanted) enough()
  })
  await Promise.race([reached, exited])
  await sleep(random.below(20))
  assert.equal(child.exitCode, null, 'the writer ended by itself')
  child.kill('SIGKILL')
  await Promise.all([exited, ended])
  return count
}

/** Opens what is left and holds it against what was acknowledged; notes what it found. The highest number used is returned. */
async function check(directory: string, keys: Map<string, KeyHistory>): Promise<number> {
  const tables = new LmdbTables({ directory })
  try {
    assert.deepEqual(verifyRows(tables.reader), [])
    const reads = createReads(tables)
    const bucket = reads.bucket('crash')
    assert.ok(bucket !== undefined)
    let highest = 0
    for (const [key, history] of keys) {
      const { acknowledged, tried } = history
      highest = Math.max(highest, acknowledged, tried ?? 0)
      const record = reads.object(bucket.id, key)
      const isGone = (number: number): boolean => number === 0 || isDelete(number)
      const possible = tried === undefined ? [acknowledged] : [acknowledged, tried]
      const found = possible.find((number) =>
        record === undefined ? isGone(number) : !isGone(number) && numberOf(record.etag) === number,
      )
      const shown = record === undefined ? 'nothing' : numberOf(record.etag)
      assert.ok(
        found !== undefined,
        `${key}: ${acknowledged} was acknowledged, ${tried} tried, found ${shown}`,
      )
      if (record !== undefined) {
        assert.ok(record.layout.kind === 'inline')
        const body = reads.inlineBody(record.layout.writeId)
        assert.deepEqual(body, crashBody(found), `${key}: the body belongs to the record`)
      }
      history.acknowledged = found
      history.tried = undefined
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

test('kill -9 at any moment: what was acknowledged is there, whole, and a replica of the log has the same state', {
  timeout: 240_000,
}, async (t) => {
  t.diagnostic(`seed ${seed}: repeat with PANDO_TEST_SEED=${seed}`)
  const random = new SeededRandom(seed)
  const directory = join(root, 'killed')
  const keys = new Map<string, KeyHistory>()
  let first = 1
  let total = 0
  for (let round = 0; round < rounds; round++) {
    total += await runAndKill(directory, first, random, keys)
    first = (await check(directory, keys)) + 100
  }
  t.diagnostic(`${total} acknowledged changes, ${rounds} kills`)
  assert.ok(total >= rounds * 10, `only ${total} changes were acknowledged: the test shows nothing`)
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
    const keys = new Map<string, KeyHistory>()
    let first = 1
    let total = 0
    let volatilePages = 0
    for (let round = 0; round < rounds; round++) {
      const environment = powerLossEnvironment(library, directory, journal)
      total += await runAndKill(directory, first, random, keys, environment)
      volatilePages += (await losePower(journal, () => random.next())).volatilePages
      rmSync(join(directory, 'lock.mdb'), { force: true })
      first = (await check(directory, keys)) + 100
    }
    t.diagnostic(
      `${total} acknowledged changes, ${rounds} power losses, ${volatilePages} pages not yet durable`,
    )
    assert.ok(total >= rounds * 10, `only ${total} changes were acknowledged: the test shows nothing`)
  } finally {
    rmSync(library, { force: true })
  }
})
