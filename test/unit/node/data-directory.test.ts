import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, link, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, test } from 'node:test'
import { openDataDirectory } from '../../../core/node/data-directory.ts'
import { lockDirectory as lockWith } from '../../../core/node/directory-lock.ts'
import { realEnvironment } from '../../../core/node/environment.ts'
import { openSocketDirectory } from '../../../core/node/socket-directory.ts'

let scratch = ''
const lockDirectory = (path: string) => lockWith(path, openSocketDirectory(path))
beforeEach(async () => {
  scratch = await mkdtemp(join(tmpdir(), 'pando-data-'))
})
afterEach(async () => {
  await rm(scratch, { recursive: true, force: true })
})

const open = (path: string, more: Partial<Parameters<typeof openDataDirectory>[0]> = {}) =>
  openDataDirectory({
    path,
    regionId: 1,
    version: '0.0.0',
    randomness: realEnvironment.randomness,
    rootKeys: undefined,
    ...more,
  })

test('a new directory is private, and so is every file in it', async () => {
  const path = join(scratch, 'deep', 'data')
  await using data = await open(path)
  assert.equal((await stat(path)).mode & 0o777, 0o700)
  assert.equal(data.rootKeysFrom, 'generated')
  for (const name of await readdir(path)) {
    assert.equal((await stat(join(path, name))).mode & 0o077, 0, name)
  }
})

test('a place where no directory can be made is refused, and not tried for ever', {
  timeout: 20_000,
}, async () => {
  await writeFile(join(scratch, 'file'), '')
  const places = [join(scratch, 'file'), join(scratch, 'file', 'data')]
  if (process.platform === 'linux') places.push('/proc/pando', '/proc/pando/data')
  for (const path of places) {
    await assert.rejects(open(path), { name: 'StorageError', code: 'INVALID_CONFIG' }, path)
  }
})

test('a directory that others could read is closed to them', async () => {
  const path = join(scratch, 'data')
  await mkdir(path, { mode: 0o755 })
  await chmod(path, 0o755)
  await using _ = await open(path)
  assert.equal((await stat(path)).mode & 0o777, 0o700)
})

test('keys survive a restart and are reported as generated only once', async () => {
  const path = join(scratch, 'data')
  const first = await open(path)
  await first.close()
  const second = await open(path)
  await second.close()
  assert.deepEqual(second.rootKeys, first.rootKeys)
  assert.deepEqual(second.sealingKey, first.sealingKey)
  assert.equal(second.rootKeysFrom, 'file')
  assert.match(first.rootKeys.secretKey, /^[A-Za-z0-9_-]{40}$/)
  assert.match(first.rootKeys.accessKeyId, /^PNDO[A-Z2-7]{16}$/)
})

test('root keys of the environment are used and never stored', async () => {
  const path = join(scratch, 'data')
  const rootKeys = { accessKeyId: 'root', secretKey: 'from-the-environment' }
  await using data = await open(path, { rootKeys })
  assert.deepEqual(data.rootKeys, rootKeys)
  for (const name of await readdir(path)) {
    if (name === 'lock') continue
    assert.ok(!(await readFile(join(path, name), 'utf8')).includes(rootKeys.secretKey), name)
  }
})

test('a second opener is refused while the first lives, and admitted after it', async () => {
  const path = join(scratch, 'data')
  const first = await open(path)
  await assert.rejects(open(path), { code: 'ALREADY_OPEN', message: /in use by another pando process/ })
  await first.close()
  await using _ = await open(path)
})

test('the lock holds against a process that cannot see our abstract sockets', async () => {
  // Another network namespace (a container with the directory mounted) sees the socket file only.
  await using _ = { [Symbol.asyncDispose]: (await lockDirectory(scratch)).release }
  const other = join(scratch, 'mounted-elsewhere')
  await mkdir(other)
  // Another directory has another abstract name; the same socket file is in it.
  await link(join(scratch, 'lock'), join(other, 'lock'))
  await assert.rejects(lockDirectory(other), { code: 'ALREADY_OPEN' })
})

test('of many openers at once exactly one gets the lock', async () => {
  const outcomes = await Promise.allSettled(Array.from({ length: 8 }, () => lockDirectory(scratch)))
  const winners = outcomes.flatMap((outcome) => (outcome.status === 'fulfilled' ? [outcome.value] : []))
  assert.equal(winners.length, 1)
  await winners[0]?.release()
})

test('the lock of a killed process is free at once', async () => {
  const script = `
    const { lockDirectory } = await import(${moduleText('directory-lock')})
    const { openSocketDirectory } = await import(${moduleText('socket-directory')})
    await lockDirectory(process.argv[1], openSocketDirectory(process.argv[1]))
    console.log('locked')
    setInterval(() => {}, 1000)`
  const child = spawn(process.execPath, ['--input-type=module', '-e', script, scratch], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  await once(child.stdout, 'data')
  await assert.rejects(lockDirectory(scratch), { code: 'ALREADY_OPEN' })
  child.kill('SIGKILL')
  await once(child, 'exit')
  const lock = await lockDirectory(scratch)
  await lock.release()
  assert.deepEqual(await readdir(scratch), [])
})

function moduleText(name: string): string {
  return JSON.stringify(new URL(`../../../core/node/${name}.js`, import.meta.url).href)
}

test('a directory of something else is left alone', async () => {
  const path = join(scratch, 'home')
  await mkdir(path)
  await writeFile(join(path, 'thesis.tex'), 'precious')
  await assert.rejects(open(path), { code: 'UNSUPPORTED_FORMAT', message: /thesis\.tex/ })
  assert.deepEqual(await readdir(path), ['thesis.tex'])
})

test('a start that was cut short at any file is finished by the next', async () => {
  const whole = join(scratch, 'whole')
  await (await open(whole)).close()
  for (const kept of [
    [],
    ['sealing-key'],
    ['sealing-key', 'root-key.json'],
    ['sealing-key', 'format.json'],
  ]) {
    const path = join(scratch, `cut-${kept.length}-${kept.at(-1) ?? 'none'}`)
    await mkdir(path)
    for (const name of kept) await link(join(whole, name), join(path, name))
    await writeFile(join(path, 'format.json.new'), '{"half":')
    await using _ = await open(path)
    assert.ok((await readdir(path)).includes('format.json'))
  }
})

test('a format of the future, a damaged one and another region are refused', async () => {
  const path = join(scratch, 'data')
  await (await open(path)).close()
  const format = JSON.parse(await readFile(join(path, 'format.json'), 'utf8'))
  await writeFile(join(path, 'format.json'), JSON.stringify({ ...format, format: 2 }))
  await assert.rejects(open(path), {
    code: 'UNSUPPORTED_FORMAT',
    message: /says format 2; this program reads format 1/,
  })
  await writeFile(join(path, 'format.json'), '{"prod')
  await assert.rejects(open(path), { code: 'UNSUPPORTED_FORMAT', message: /damaged/ })
  await writeFile(join(path, 'format.json'), JSON.stringify(format))
  await assert.rejects(open(path, { regionId: 2 }), {
    code: 'INVALID_CONFIG',
    message: /belongs to region 1/,
  })
  // A refusal gives the lock back.
  await (await open(path)).close()
})

test('a lost or foreign sealing key is refused, not replaced', async () => {
  const path = join(scratch, 'data')
  await (await open(path)).close()
  const key = await readFile(join(path, 'sealing-key'))
  await rm(join(path, 'sealing-key'))
  await assert.rejects(open(path), { message: /sealing-key is missing or damaged/ })
  await writeFile(join(path, 'sealing-key'), Buffer.alloc(32, 7).toString('base64'))
  await assert.rejects(open(path), { message: /not the key of this directory/ })
  await writeFile(join(path, 'sealing-key'), key)
  await (await open(path)).close()
})

test('a damaged root key file is told without showing it', async () => {
  const path = join(scratch, 'data')
  const { close, rootKeys } = await open(path)
  await close()
  await writeFile(join(path, 'root-key.json'), `{"accessKeyId":"x","secretKey":"${rootKeys.secretKey}"`)
  await assert.rejects(open(path), (error) => {
    assert.ok(error instanceof Error)
    assert.match(error.message, /root-key\.json is damaged/)
    assert.ok(!JSON.stringify([error.message, String(error.cause)]).includes(rootKeys.secretKey))
    return true
  })
})

test('a directory deeper than the address of a socket is long works as well', async () => {
  const path = join(scratch, 'deep-'.repeat(20), 'deep-'.repeat(20))
  const first = await open(path)
  await assert.rejects(open(path), { code: 'ALREADY_OPEN' })
  assert.ok(first.sockets.address('admin.sock').length < 108)
  await first.close()
  assert.ok(!(await readdir(path)).some((name) => name.startsWith('lock')))
  await using _ = await open(path)
})

test('what a region shares is used as it is and not written down; another key later is refused', async () => {
  const path = join(scratch, 'data')
  const shared = {
    sealingKey: new Uint8Array(32).fill(3),
    rootKeys: { accessKeyId: 'PNDOREGION', secretKey: 'secret of the region' },
  }
  {
    await using data = await open(path, { shared })
    assert.deepEqual([...data.sealingKey], [...shared.sealingKey])
    assert.deepEqual([data.rootKeysFrom, data.rootKeys], ['region', shared.rootKeys])
    const names = await readdir(path)
    assert.ok(!names.includes('sealing-key') && !names.includes('root-key.json'), `${names}`)
  }
  const foreign = { ...shared, sealingKey: new Uint8Array(32).fill(4) }
  await assert.rejects(open(path, { shared: foreign }), {
    code: 'INVALID_CONFIG',
    message: /another sealing key/,
  })
  await using again = await open(path, { shared })
  assert.equal(again.rootKeysFrom, 'region')
})
