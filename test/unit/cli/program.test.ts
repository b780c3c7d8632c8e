import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { createServer, type Server } from 'node:net'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import { after, before, test } from 'node:test'
import { parse } from 'yaml'
import { exitCodes, exitFor } from '../../../core/cli/exit-codes.ts'
import { run } from '../../../core/cli/program.ts'
import { counted, facts, formatTime, ProgressLine, type Terminal, table } from '../../../core/cli/terminal.ts'
import { StorageError } from '../../../core/contract/errors.ts'
import { loadConfig } from '../../../core/node/config/load.ts'

let scratch = ''
before(async () => {
  scratch = await mkdtemp(join(tmpdir(), 'pando-cli-'))
})
after(async () => {
  await rm(scratch, { recursive: true, force: true })
})

async function pando(...args: string[]) {
  return pandoWith({}, ...args)
}

async function pandoWith(environment: Record<string, string>, ...args: string[]) {
  let out = ''
  let err = ''
  const terminal: Terminal = {
    out: (text) => {
      out += text
    },
    err: (text) => {
      err += text
    },
    isInteractive: false,
    columns: 80,
    environment,
    workingDirectory: scratch,
  }
  const code = await run(args, terminal, '1.2.3')
  return { code, out, err }
}

test('help and version answer with code 0, and help lists the exit codes', async () => {
  const help = await pando('--help')
  assert.equal(help.code, 0)
  for (const [code, meaning] of Object.values(exitCodes))
    assert.ok(help.out.includes(`  ${code}  ${meaning}`))
  assert.deepEqual(await pando('--version'), { code: 0, out: '1.2.3\n', err: '' })
  assert.deepEqual(await pando('version'), { code: 0, out: '1.2.3\n', err: '' })
  assert.deepEqual(JSON.parse((await pando('version', '--json')).out), {
    version: '1.2.3',
    node: process.version,
  })
})

test('what is not a command line is refused with code 2 and what was meant', async () => {
  const typo = await pando('bukcet', 'list')
  assert.equal(typo.code, 2)
  assert.match(typo.err, /Did you mean bucket\?/)
  assert.equal((await pando('bucket', 'create')).code, 2)
  assert.equal((await pando('bucket', 'list', '--nope')).code, 2)
  assert.equal((await pando('status', 'extra', 'words')).code, 2)
})

test('the help of every command says where the options of all commands are', async () => {
  for (const args of [['bucket'], ['bucket', 'create'], ['cluster', 'status']]) {
    const { code, out } = await pando(...args, '--help')
    assert.equal(code, 0)
    assert.match(
      out,
      /Every command takes --data, --config, --node, --endpoint and --json: see 'pando --help'/,
    )
  }
  assert.match((await pando('bucket', 'create')).err, /\(see 'pando bucket create --help'\)/)
})

test('a region on one machine is started by what `cluster init` prints', async () => {
  const { code, out } = await pando('cluster', 'init', 'a=127.0.0.1', 'b=127.0.0.1', '--directory', 'here')
  assert.equal(code, 0)
  for (const name of ['a', 'b']) {
    const [, file = ''] = new RegExp(`pando up --config (\\S+) --node ${name}$`, 'm').exec(out) ?? []
    assert.equal((await pando('config', 'validate', file, '--node', name)).code, 0, out)
  }
  const [, rootKey = ''] = /same for all: (\S+)/.exec(out) ?? []
  const { accessKeyId } = JSON.parse(await readFile(join(scratch, rootKey), 'utf8'))
  assert.match(accessKeyId, /^PNDO/)
  assert.match(
    (await pando('cluster', 'add-node', 'c=127.0.0.1', '--directory', 'here')).out,
    /--config here\/cluster\.yaml --node c$/m,
  )
  assert.match((await pando('cluster', 'init', 'a=10.0.0.1', '--directory', 'far')).out, /Copy cluster\.yaml/)
})

test('of a file with several nodes the one that runs here is meant', async () => {
  await pando('cluster', 'init', 'n1=127.0.0.1', 'n2=127.0.0.1', '--directory', 'several')
  const ask = () => pando('stop', '--config', 'several/cluster.yaml')
  assert.match((await ask()).err, /say which one this is with --node/)
  const sockets: Server[] = []
  const runs = async (name: string) => {
    await mkdir(join(scratch, `several/data-${name}`))
    const socket = createServer((connection) => connection.destroy())
    sockets.push(socket.listen(join(scratch, `several/data-${name}`, 'admin.sock')))
    await once(socket, 'listening')
  }
  try {
    // Nobody listens any more where a node was killed.
    await mkdir(join(scratch, 'several/data-n1'))
    await writeFile(join(scratch, 'several/data-n1/admin.sock'), '')
    await runs('n2')
    const one = await ask()
    assert.equal(one.code, 3, one.err)
    await rm(join(scratch, 'several/data-n1'), { recursive: true })
    await runs('n1')
    const both = await ask()
    assert.equal(both.code, 2)
    assert.match(
      both.err,
      /several nodes of several\/cluster\.yaml run here \(n1, n2\): say which one with --node/,
    )
  } finally {
    for (const socket of sockets) socket.close()
  }
})

test('nodes of several machines have the same data directory, each at its own: the one here is meant', async () => {
  await pando('cluster', 'init', 'n1=10.0.0.1', 'n2=10.0.0.2', '--directory', 'each')
  await mkdir(join(scratch, 'each/data'))
  const socket = createServer((connection) => connection.destroy()).listen(
    join(scratch, 'each/data/admin.sock'),
  )
  await once(socket, 'listening')
  try {
    const { code, err } = await pando('stop', '--config', 'each/cluster.yaml')
    assert.equal(code, 3, err)
  } finally {
    socket.close()
  }
})

test('the paths of a file are relative to it, and what is in the working directory only is found there', async () => {
  await mkdir(join(scratch, 'etc'))
  await writeFile(
    join(scratch, 'etc/pando.yaml'),
    'data: kept\ntelemetry: { audit: { file: audit.log } }\npolicies: { watch: modules }\nrpc: { regionKeyFile: secret }\n',
  )
  const paths = async (environment: Record<string, string> = {}, ...more: string[]) => {
    const { out, err } = await pandoWith(environment, 'config', 'show', '--config', 'etc/pando.yaml', ...more)
    assert.equal(err, '')
    const { data, telemetry, policies, rpc } = parse(out)
    return [data, telemetry.audit.file, policies.watch, rpc.regionKeyFile].map((path) =>
      relative(scratch, path),
    )
  }
  const beside = ['etc/kept', 'etc/audit.log', 'etc/modules', 'etc/secret']
  assert.deepEqual(await paths(), beside)
  assert.deepEqual(await paths({ PANDO_DATA: 'other' }), ['other', ...beside.slice(1)])
  assert.deepEqual(await paths({ PANDO_DATA: 'other' }, '--data', 'third'), ['third', ...beside.slice(1)])
  // A directory is a node's data once it says so.
  await mkdir(join(scratch, 'kept'))
  await writeFile(join(scratch, 'audit.log'), '')
  assert.deepEqual(await paths(), ['etc/kept', 'audit.log', 'etc/modules', 'etc/secret'])
  await writeFile(join(scratch, 'kept/format.json'), '{}')
  assert.deepEqual(await paths(), ['kept', 'audit.log', 'etc/modules', 'etc/secret'])
  await mkdir(join(scratch, 'etc/kept'))
  await writeFile(join(scratch, 'etc/kept/format.json'), '{}')
  await writeFile(join(scratch, 'etc/audit.log'), '')
  assert.deepEqual(await paths(), beside)
  for (const left of ['kept', 'audit.log']) await rm(join(scratch, left), { recursive: true })
})

test('without a node each command that needs one says how to get one', async () => {
  for (const args of [
    ['status'],
    ['stop'],
    ['bucket', 'list'],
    ['bucket', 'create', 'first'],
    ['key', 'create'],
    ['debug', 'scan'],
    ['debug', 'stats'],
  ]) {
    const { code, err } = await pando(...args)
    assert.equal(code, 3, args.join(' '))
    assert.match(err, /is the node running\? start it with 'pando up'/)
  }
})

test('an error with --json is JSON on stdout, with its code and its exit code', async () => {
  const { code, out } = await pando('status', '--json')
  const { error, exitCode } = JSON.parse(out)
  assert.equal(error.code, 'UNAVAILABLE')
  assert.equal(exitCode, code)
})

test('TCP without keys is refused before anything is sent', async () => {
  const { code, err } = await pando('status', '--endpoint', '127.0.0.1:1')
  assert.equal(code, 4)
  assert.match(err, /PANDO_ROOT_ACCESS_KEY/)
})

test('the printed schema is a valid configuration that says the defaults', async () => {
  const { code, out } = await pando('config', 'schema')
  assert.equal(code, 0)
  const printed = loadConfig({ file: { name: 'printed', text: out }, environment: {} })
  assert.deepEqual(printed, loadConfig({ environment: {} }))
  for (const line of out.split('\n')) assert.ok(line.length <= 110, line)
  const schema = JSON.parse((await pando('config', 'schema', '--json')).out)
  assert.equal(schema.properties.s3.additionalProperties, false)
})

test('the configuration in force is shown as it would be written', async () => {
  await writeFile(join(scratch, 'a.yaml'), 's3:\n  listen: 127.0.0.1:1\nlog:\n  level: debug\n')
  const { out } = await pandoWith({ PANDO_S3_LISTEN: '127.0.0.1:2' }, 'config', 'show', '--config', 'a.yaml')
  const shown = parse(out)
  assert.equal(shown.s3.listen, '127.0.0.1:2')
  assert.equal(shown.log.level, 'debug')
  assert.deepEqual(loadConfig({ file: { name: 'shown', text: out }, environment: {} }).s3.listen, {
    host: '127.0.0.1',
    port: 2,
  })
})

test('config validate tells what is wrong and exits with 2', async () => {
  await writeFile(join(scratch, 'bad.yaml'), 's3:\n  lisen: 127.0.0.1:1\n')
  const bad = await pando('config', 'validate', 'bad.yaml')
  assert.equal(bad.code, 2)
  assert.match(bad.err, /s3\.lisen: unknown key; did you mean 'listen'\?/)
  await writeFile(join(scratch, 'good.json'), '{"region": "eu-1"}')
  assert.equal((await pando('config', 'validate', 'good.json')).code, 0)
  const missing = await pando('config', 'validate', 'missing.yaml')
  assert.equal(missing.code, 2)
  assert.match(missing.err, /cannot read the config file/)
  assert.equal((await pandoWith({ PANDO_CONFIG: 'bad.yaml' }, 'config', 'validate')).code, 2)
})

test('the doctor looks at this machine and leaves nothing behind', async () => {
  const data = join(scratch, 'data')
  const { code, out } = await pando('doctor', '--json', '--data', data)
  const { ok, checks } = JSON.parse(out) as {
    ok: boolean
    checks: { name: string; state: string; found: string }[]
  }
  assert.equal(code, ok ? 0 : 7)
  const names = checks.map(({ name }) => name)
  for (const name of [
    'node',
    'kernel',
    'io_uring',
    'compiler',
    'liburing',
    'native addon',
    'data directory',
    'fsync',
  ]) {
    assert.ok(names.includes(name), name)
  }
  for (const { name, state, found } of checks) {
    assert.match(state, /^(ok|warn|fail)$/, name)
    assert.notEqual(found, '', name)
  }
  assert.match(checks.find(({ name }) => name === 'fsync')?.found ?? '', /\d ms in the middle/)
  const { readdir } = await import('node:fs/promises')
  assert.deepEqual(
    (await readdir(scratch)).filter((name) => name.includes('doctor')),
    [],
  )
})

test('a data directory that cannot be written fails the doctor', async () => {
  await writeFile(join(scratch, 'file'), '')
  const { code, out } = await pando('doctor', '--data', join(scratch, 'file', 'data'))
  assert.equal(code, 7)
  assert.match(out, /^fail {2}data directory/m)
})

test('a secret is not taken from the command line, and half a pair is refused', async () => {
  assert.equal((await pando('key', 'create', '--secret-key', 'x')).code, 2)
  const half = await pando('key', 'create', '--access-key', 'ABC')
  assert.equal(half.code, 2)
  assert.match(half.err, /go together/)
})

test('every exit code is one of the table', () => {
  const known = new Set<number>(Object.values(exitCodes).map(([code]) => code))
  assert.equal(known.size, Object.keys(exitCodes).length)
  for (const code of [
    'INTERNAL',
    'UNAUTHENTICATED',
    'NO_SUCH_BUCKET',
    'INVALID_CONFIG',
    'ALREADY_OPEN',
  ] as const) {
    assert.ok(known.has(exitFor(new StorageError(code, ''))))
  }
  assert.equal(exitFor(new StorageError('UNAVAILABLE', 'the node said so')), 1)
  assert.equal(exitFor(new StorageError('UNAVAILABLE', '', { details: { unreachable: 'true' } })), 3)
})

test('one of a thing is not several', () => {
  assert.deepEqual(
    [0, 1, 2].map((count) => counted(count, 'bucket')),
    ['0 buckets', '1 bucket', '2 buckets'],
  )
})

test('tables are aligned and harmless', () => {
  const text = table(
    [{ title: 'name' }, { title: 'size', align: 'right' }, { title: 'note' }],
    [
      ['a', '1', ''],
      ['long-name', '1000', 'x\u001b[31m'],
    ],
  )
  assert.equal(text, 'NAME       SIZE  NOTE\na             1\nlong-name  1000  x\\x1b[31m\n')
  assert.equal(
    facts([
      ['a', '1'],
      ['long', '2'],
    ]),
    'a     1\nlong  2\n',
  )
  assert.equal(formatTime(0), '1970-01-01 00:00:00Z')
})

test('progress is shown to a person after a second, and not to a file', async () => {
  let err = ''
  const terminal = (isInteractive: boolean): Terminal => ({
    out: () => undefined,
    err: (text) => {
      err += text
    },
    isInteractive,
    columns: 40,
    environment: {},
    workingDirectory: '/',
  })
  const shown = new ProgressLine(terminal(true))
  const file = new ProgressLine(terminal(false))
  shown.update('working', 1, 2)
  assert.equal(err, '')
  await new Promise((resolve) => setTimeout(resolve, 1010))
  file.update('working', 1, 2)
  assert.equal(err, '')
  shown.update('working', 1, 2)
  assert.match(err, /^\rworking {2}\[##########----------\] 50 %/)
  assert.ok(err.length <= 41)
  shown.clear()
  assert.match(err, /\r {2,}\r$/)
})
