import assert from 'node:assert/strict'
import { copyFile, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import test from 'node:test'
import { PandoObject } from '../../../sdk/client/get-object.ts'
import { PandoClient } from '../../../sdk/index.ts'
import { type NodeProcess, runCommand, startNode } from '../../kit/node-process.ts'
import { openTcpGate } from '../../kit/tcp-gate.ts'

/** The blocks of sdk/README.md as one program: imports first, as a reader would put them. */
async function programOfReadme(): Promise<string> {
  const page = await readFile('sdk/README.md', 'utf8')
  const blocks = [...page.matchAll(/^```ts\n([\s\S]*?)^```$/gm)].map(([, text = '']) => text)
  assert.ok(blocks.length >= 9, 'the blocks were not found')
  const lines = blocks.join('\n').split('\n')
  const imports = new Set(lines.filter((line) => line.startsWith('import ')))
  const rest = lines.filter((line) => !line.startsWith('import '))
  return [...imports, ...rest].join('\n')
}

/** Methods and accessors that an application can call on what a class makes. */
const membersOf = (made: { readonly prototype: object }): string[] =>
  Object.getOwnPropertyNames(made.prototype).filter((name) => name !== 'constructor')

test('every method of the client, and of what `get` gives, is in an example of sdk/README.md', async () => {
  const program = await programOfReadme()
  const missing = (names: readonly string[]): string[] =>
    names.filter((name) => !new RegExp(`\\.${name}\\(`).test(program))
  const members = membersOf(PandoClient)
  assert.ok(members.length >= 24, members.join(' '))
  assert.deepEqual(missing(members), [])
  const ways = ['bytes', 'arrayBuffer', 'text', 'json', 'cancel']
  assert.deepEqual(
    ways.filter((name) => !membersOf(PandoObject).includes(name)),
    [],
  )
  assert.deepEqual(missing(ways), [])
  assert.match(program, /\.body\b/)
})

const adminEndpointOf = async (node: NodeProcess): Promise<string> =>
  JSON.parse((await node.command('status', '--json')).stdout).adminEndpoint

test('what sdk/README.md shows compiles against the package’s own types, and runs', {
  timeout: 180_000,
}, async () => {
  // Inside of the checkout: the program finds the types of Node there.
  await mkdir('.cache', { recursive: true })
  const folder = await mkdtemp(resolve('.cache/sdk-readme-'))
  const local = `/dev/shm/pando-readme-${process.pid}`
  await using node = await startNode({ env: { PANDO_S3_LOCAL: local } })
  const gate = await openTcpGate(() => node.port)
  try {
    const program = (await programOfReadme())
      .replaceAll('http://127.0.0.1:9000', node.endpoint)
      .replaceAll('http://127.0.0.1:9002', node.consoleUrl)
      .replaceAll('127.0.0.1:9001', await adminEndpointOf(node))
      .replaceAll('http://127.0.0.1:9900', `http://127.0.0.1:${gate.port}`)
      .replaceAll("accessKeyId: '...'", `accessKeyId: '${node.accessKey}'`)
      .replaceAll("secretAccessKey: '...'", `secretAccessKey: '${node.secretKey}'`)
      .replaceAll('/dev/shm/pando', local)
      .replaceAll('/tmp/', `${folder}/`)
      .replaceAll('/var/lib/pando', node.dataDirectory)
    await copyFile('dist/plugins/builtin/fair.wasm', join(folder, 'nightly.wasm'))
    await writeFile(join(folder, 'readme.ts'), program)
    await writeFile(join(folder, 'package.json'), JSON.stringify({ name: 'reader', type: 'module' }))
    await mkdir(join(folder, 'node_modules'))
    await symlink(resolve('.'), join(folder, 'node_modules/pando'))
    const flags =
      '--strict --noUncheckedIndexedAccess --exactOptionalPropertyTypes --skipLibCheck --types node'
    const shape = '--module nodenext --moduleResolution nodenext --target es2023 --ignoreConfig readme.ts'
    const compiler = resolve('node_modules/typescript/bin/tsc')
    const compiled = await runCommand(process.execPath, [compiler, ...`${flags} ${shape}`.split(' ')], {
      cwd: folder,
    })
    assert.equal(compiled.code, 0, compiled.stdout)
    const ran = await runCommand(process.execPath, ['readme.js'], {
      cwd: folder,
      env: { PATH: process.env['PATH'] },
      timeoutMs: 60_000,
    })
    assert.equal(ran.code, 0, `${ran.stdout}\n${ran.stderr}`)
    const shown = ran.stdout.split('\n')
    for (const line of [
      'remember the milk',
      '..',
      '20000000',
      'autumn',
      'InvalidArgument false',
      'enabled',
      '200',
      '204',
      'false',
      'local',
    ]) {
      assert.ok(shown.includes(line), `${line} was not printed:\n${ran.stdout}`)
    }
  } finally {
    await gate.close()
    await rm(folder, { recursive: true, force: true })
    await rm(local, { recursive: true, force: true })
  }
})
