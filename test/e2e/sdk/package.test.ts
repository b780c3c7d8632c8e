import assert from 'node:assert/strict'
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import test from 'node:test'
import { publint } from 'publint'
import { runCommand } from '../../kit/node-process.ts'

/** What a stranger's project, which has neither Node's types nor anything else of ours, makes of the package. */
const program = `
import { PandoClient, PandoError, type ObjectInfo, type PutBody } from 'pando/sdk'
import { PandoAdmin, type NodeStatus } from 'pando/sdk/admin'
import { localTransport, type WayTaken } from 'pando/sdk/local'
import { openPolicy, type PolicyAnswer, readTrace, replayTrace } from 'pando/sdk/policy'
export const answer: PolicyAnswer = openPolicy(new Uint8Array()).ask('admit', { utilisation: 0.5 })
export const changed: number = replayTrace(new Uint8Array(), readTrace('')).changed
export const state: Promise<NodeStatus['state']> = new PandoAdmin({ endpoint: 'https://example.org' }).status().then(({ state }) => state)
const client = new PandoClient({ endpoints: ['https://example.org'] })
const body: PutBody = new Blob(['x'])
export const size: Promise<number> = client.head('bucket', 'key').then((info: ObjectInfo) => info.size)
export const stream: Promise<ReadableStream<Uint8Array>> = client.get('bucket', 'key').then((object) => object.body)
export const put = client.put('bucket', 'key', body, { ifNoneMatch: '*' })
// @ts-expect-error: a size is no name
export const wrong = client.get('bucket', 42)
export const transport = localTransport({ directory: '/dev/shm/pando', onChange: (taken: WayTaken) => taken.way })
export const beside = new PandoClient({ endpoints: ['https://example.org'], transport })
export const error: Error = new PandoError('Code', 'message')
`

test('the package that npm packs: publint finds nothing, types resolve, ESM runs', {
  timeout: 180_000,
}, async (t) => {
  await mkdir('.cache', { recursive: true })
  const folder = await mkdtemp(resolve('.cache/sdk-package-'))
  t.after(() => rm(folder, { recursive: true, force: true }))
  const npm = (args: string) => runCommand('npm', args.split(' '), { env: { ...process.env, HOME: folder } })
  const packed = await npm(`pack --json --ignore-scripts --pack-destination ${folder}`)
  assert.equal(packed.code, 0, packed.stderr)
  const [made]: { filename: string; files: { path: string }[] }[] = JSON.parse(packed.stdout)
  const paths = made?.files.map(({ path }) => path) ?? []
  assert.ok(paths.includes('dist/sdk/index.js') && paths.includes('dist/sdk/index.d.ts'))
  assert.deepEqual(
    paths.filter(
      (path) => /(^|\/)test\/|\.test\.|node_modules/.test(path) && !path.startsWith('dist/plugins/'),
    ),
    [],
  )

  // As npm lays it out; what the server depends on, the SDK does without.
  const installed = join(folder, 'node_modules/pando')
  await mkdir(installed, { recursive: true })
  const tarball = join(folder, made?.filename ?? '')
  const unpacked = await runCommand('tar', ['-xzf', tarball, '-C', installed, '--strip-components=1'])
  assert.equal(unpacked.code, 0, unpacked.stderr)
  const { messages } = await publint({ pkgDir: installed, pack: false, strict: true })
  assert.deepEqual(
    messages.map(({ code, path }) => `${code} ${path.join('.')}`),
    [],
  )

  await writeFile(join(folder, 'package.json'), JSON.stringify({ name: 'stranger', type: 'module' }))
  await writeFile(join(folder, 'program.ts'), program)
  const compiler = resolve('node_modules/typescript/bin/tsc')
  for (const resolution of ['--module nodenext', '--module esnext --moduleResolution bundler']) {
    const flags = `--strict --target es2022 --lib es2022,dom --types _ --typeRoots ${folder} --noEmit`
    await mkdir(join(folder, '_'), { recursive: true })
    await writeFile(join(folder, '_/index.d.ts'), '')
    const args = [compiler, ...`${flags} ${resolution} --ignoreConfig program.ts`.split(' ')]
    const compiled = await runCommand(process.execPath, args, { cwd: folder })
    assert.equal(compiled.code, 0, `${resolution}: ${compiled.stdout}`)
  }
  const run = async (text: string) =>
    runCommand(process.execPath, ['--input-type=module', '--eval', text], { cwd: folder })
  assert.equal(
    (await run("import { PandoClient } from 'pando/sdk'; new PandoClient({ endpoints: ['http://a'] })")).code,
    0,
  )
  assert.equal(
    (await run("import { PandoAdmin } from 'pando/sdk/admin'; new PandoAdmin({ endpoint: 'http://a' })"))
      .code,
    0,
  )
  assert.ok(paths.includes('core/control/admin.proto'), 'gRPC needs the proto files')
  // Authors have this package, whatever else is missing: no other is imported.
  const asked = await run(`
    import { readFile } from 'node:fs/promises'
    import { checkVectors, openPolicy } from 'pando/sdk/policy'
    const wasm = await readFile('node_modules/pando/dist/plugins/builtin/fair.wasm')
    console.log(checkVectors(wasm).length > 0, openPolicy(wasm).ask('classify', { operation: 'write', byteLength: 1e9 }).status)
  `)
  assert.equal(asked.stdout, 'true decided\n', asked.stderr)
  const inside = await run("import 'pando/dist/sdk/client/sender.js'")
  assert.match(inside.stderr, /ERR_PACKAGE_PATH_NOT_EXPORTED/)
  assert.match(await readFile(join(installed, 'dist/sdk/index.d.ts'), 'utf8'), /PandoClient/)
})
