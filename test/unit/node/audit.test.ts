import assert from 'node:assert/strict'
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { open } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test, { type TestContext } from 'node:test'
import { silentLogger } from '../../../core/contract/logger.ts'
import { routes } from '../../../core/gateway/s3/operations.ts'
import { openAuditFile } from '../../../core/node/audit/audit-file.ts'
import { type AuditEvent, changesData, verifyAudit } from '../../../core/telemetry/audit.ts'
import { systemEnvironment } from '../../kit/s3-region.ts'

const { clock } = systemEnvironment

function folder(t: TestContext): string {
  const path = mkdtempSync(join(tmpdir(), 'pando-audit-'))
  t.after(() => rmSync(path, { recursive: true, force: true }))
  return path
}

const event = (key: string): AuditEvent => ({
  ...{ actor: 'AKIATEST', via: 's3', from: '10.0.0.9', action: 'PutObject', outcome: 'ok', request: 'R1' },
  resource: { bucket: 'b', key },
})
const openLog = (path: string, more: { maxBytes?: number; keep?: number } = {}) =>
  openAuditFile({ path, maxBytes: 1 << 20, keep: 3, node: 'n1', clock, log: silentLogger, ...more })
/** Until so much of it is there: a machine that is busy writes later than one that is not. */
async function until(what: string, holds: () => boolean): Promise<void> {
  for (const began = performance.now(); !holds(); ) {
    if (performance.now() - began > 30_000) assert.fail(`never: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 1))
  }
}
/** What comes next is a batch of its own, so that files are put aside in between. */
const written = (path: string, key: string): Promise<void> =>
  until(`${key} is written`, () => {
    try {
      return readFileSync(path, 'utf8').includes(`"${key}"`)
    } catch {
      // Put aside just now.
      return false
    }
  })
const linesOf = (path: string): string[] => readFileSync(path, 'utf8').split('\n').slice(0, -1)

test('a record is one line of JSON that says who did what to what; the file is its owner’s alone', async (t) => {
  const path = join(folder(t), 'deep', 'audit.log')
  const log = await openLog(path)
  log.record(event('a\nb'))
  await log.close()
  const lines = linesOf(path)
  const [started, put] = lines.map((line) => JSON.parse(line))
  assert.equal(lines.length, 2)
  assert.equal(started.action, 'AuditStarted')
  const { time, previous, hash, ...rest } = put
  assert.deepEqual(rest, {
    ...{ sequence: 2, node: 'n1', actor: 'AKIATEST', via: 's3', from: '10.0.0.9', action: 'PutObject' },
    ...{ resource: { bucket: 'b', key: 'a\nb' }, outcome: 'ok', request: 'R1' },
  })
  assert.ok(Math.abs(Date.parse(time) - Date.now()) < 60_000)
  assert.equal(previous, started.hash)
  assert.match(hash, /^[0-9a-f]{64}$/)
  assert.equal(statSync(path).mode & 0o777, 0o600)
})

test('the chain goes on over restarts and files put aside; what is changed, taken out or moved is found', async (t) => {
  const path = join(folder(t), 'audit.log')
  for (let run = 0; run < 3; run++) {
    const log = await openLog(path, { maxBytes: 4096, keep: 50 })
    for (let count = 0; count < 20; count++) {
      log.record(event(`${run}-${count}`))
      await written(path, `${run}-${count}`)
    }
    await log.close()
  }
  const files = readdirSync(join(path, '..')).length
  assert.ok(files > 3, `${files} files`)
  const order = Array.from({ length: files - 1 }, (_, index) => `${path}.${files - 1 - index}`)
  const lines = [...order, path].flatMap(linesOf)
  assert.deepEqual((await verifyAudit(lines)).problems, [])
  assert.equal((await verifyAudit(lines)).records, 63)

  const changed = lines.with(10, (lines[10] ?? '').replace('"b"', '"c"'))
  assert.match((await verifyAudit(changed)).problems[0] ?? '', /^line 11: not a record, or changed/)
  assert.match((await verifyAudit(lines.toSpliced(10, 1))).problems[0] ?? '', /record 12 follows record 10/)
  assert.equal((await verifyAudit([...lines.slice(0, 5), ...lines.slice(4)])).problems.length, 1)
  const other = join(folder(t), 'other.log')
  const foreign = await openLog(other)
  for (let count = 0; count < 20; count++) foreign.record(event(`${count}`))
  await foreign.close()
  const spliced = [...lines.slice(0, 10), ...linesOf(other).slice(10)]
  assert.match((await verifyAudit(spliced)).problems[0] ?? '', /does not belong to the one before/)
})

test('only so many files are kept', async (t) => {
  const path = join(folder(t), 'audit.log')
  const log = await openLog(path, { maxBytes: 1, keep: 2 })
  for (let count = 0; count < 10; count++) {
    log.record(event(`${count}`))
    await written(path, `${count}`)
  }
  await log.close()
  assert.deepEqual(readdirSync(join(path, '..')).toSorted(), ['audit.log', 'audit.log.1', 'audit.log.2'])
  const verdict = await verifyAudit([`${path}.2`, `${path}.1`, path].flatMap(linesOf))
  assert.deepEqual(verdict.problems, [])
  assert.ok(verdict.first > 1, 'it is told that older ones are gone')
})

test('a file that cannot be put aside grows on, and none of the older ones is pushed out meanwhile', async (t) => {
  const path = join(folder(t), 'audit.log')
  let nowMs = 0
  const impatient = { ...clock, monotonic: () => (nowMs += 600) }
  const said: string[] = []
  const say = (_: object, message: string): void => {
    said.push(message)
  }
  const log = await openAuditFile({
    path,
    maxBytes: 1,
    keep: 4,
    node: 'n1',
    clock: impatient,
    log: { ...silentLogger, error: say, info: say },
  })
  const told: string[] = []
  const tell = async (key: string): Promise<void> => {
    told.push(key)
    log.record(event(key))
    await written(path, key)
  }
  for (let count = 0; count < 2; count++) await tell(`before ${count}`)
  // No descriptor is left, or no room in the folder: the next file cannot be made.
  mkdirSync(`${path}.new`)
  for (let count = 0; count < 20; count++) await tell(`meanwhile ${count}`)
  const files = [`${path}.2`, `${path}.1`, path]
  const kept = files.flatMap(linesOf).map((line) => JSON.parse(line).resource.key)
  assert.deepEqual(kept.slice(1), told)
  assert.deepEqual((await verifyAudit(files.flatMap(linesOf))).problems, [])
  rmdirSync(`${path}.new`)
  for (let count = 0; count < 4 && !existsSync(`${path}.3`); count++) await tell(`after ${count}`)
  await log.close()
  const all = [`${path}.4`, `${path}.3`, ...files].filter((file) => existsSync(file)).flatMap(linesOf)
  assert.deepEqual((await verifyAudit(all)).problems, [])
  assert.deepEqual(
    all.map((line) => JSON.parse(line).resource.key).filter((key) => key !== undefined),
    told,
  )
  assert.ok(existsSync(`${path}.3`), 'it is put aside when it can be')
  assert.deepEqual(said, ['the audit log cannot be put aside', 'the audit log is written again'])
})

test('a write that fails is told of also while the file cannot be put aside', async (t) => {
  const path = join(folder(t), 'audit.log')
  let nowMs = 0
  const impatient = {
    ...clock,
    monotonic: () => (nowMs += 600),
    sleep: () => new Promise<void>((resolve) => setTimeout(resolve, 1)),
  }
  const said: string[] = []
  const say = (_: object, message: string): void => {
    said.push(message)
  }
  const logger = { ...silentLogger, error: say, info: say }
  const log = await openAuditFile({ path, maxBytes: 1, keep: 4, node: 'n1', clock: impatient, log: logger })
  await until('the first record is written', () => linesOf(path).length === 1)
  mkdirSync(`${path}.new`)
  log.record(event('not aside'))
  await until('that is told', () => said.length === 1)
  const handle = await open(path)
  const disk = t.mock.method(Object.getPrototypeOf(handle), 'datasync', async () => {
    throw Object.assign(new Error('no room'), { code: 'ENOSPC' })
  })
  await handle.close()
  log.record(event('not written'))
  await until('it was tried some times', () => disk.mock.callCount() > 3)
  disk.mock.restore()
  await until('it is written, and what is left is told', () => said.length === 3)
  rmdirSync(`${path}.new`)
  for (let count = 0; count < 4 && !existsSync(`${path}.1`); count++) {
    log.record(event(`after ${count}`))
    await written(path, `after ${count}`)
  }
  await log.close()
  const problems = ['cannot be put aside', 'cannot be written', 'cannot be put aside']
  assert.deepEqual(
    said,
    [...problems, 'is written again'].map((what) => `the audit log ${what}`),
  )
})

test('a line that was torn by a crash is cut off and told; an end that was changed stops the node', async (t) => {
  const path = join(folder(t), 'audit.log')
  const log = await openLog(path)
  log.record(event('whole'))
  await log.close()
  const whole = readFileSync(path, 'utf8')
  writeFileSync(path, `${whole}{"sequence":3,"ti`)
  await (await openLog(path)).close()
  const lines = linesOf(path)
  assert.deepEqual((await verifyAudit(lines)).problems, [])
  assert.equal(JSON.parse(lines[2] ?? '').resource.cutBytes, '17')
  writeFileSync(path, whole.replace('whole', 'other'))
  await assert.rejects(openLog(path), { code: 'INVALID_CONFIG' })
  writeFileSync(path, '')
  writeFileSync(`${path}.1`, whole)
  await (await openLog(path)).close()
  assert.equal(JSON.parse(linesOf(path)[0] ?? '').sequence, 3, 'it goes on behind the file put aside')
})

test('what the disk does not take is counted, and the next record says so', async (t) => {
  const home = folder(t)
  const path = join(home, 'audit.log')
  const log = await openLog(path, { maxBytes: 1 << 30 })
  for (let count = 0; count < 12_000; count++) log.record(event(`${count}`))
  assert.ok(log.lost > 0 && log.lost <= 2001, `${log.lost} beyond the bound`)
  // With a second batch on the disk the first one waits no more: there is room for another record.
  await until('two batches are written', () => linesOf(path).length > 1001)
  const { lost } = log
  log.record(event('after'))
  await log.close()
  const lines = linesOf(path)
  const verdict = await verifyAudit(lines)
  assert.deepEqual(verdict.problems, [])
  assert.equal(verdict.lost, lost)
})

test('every operation that changes something is known as one, and no other', () => {
  const names = [...new Set(routes.map(({ operation }) => operation.name))]
  assert.ok(names.length > 40)
  const looks = /^(Get|Head|List|Options|Select)/
  for (const name of names) assert.equal(changesData(name), !looks.test(name), name)
})
