import assert from 'node:assert/strict'
import { type SpawnSyncReturns, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import test from 'node:test'

/** A small checkout of its own: our scripts, one source file, and the packages that are installed here. */
class Checkout implements Disposable {
  readonly folder = mkdtempSync(join(tmpdir(), 'pando-setup-'))

  constructor() {
    cpSync('scripts', join(this.folder, 'scripts'), { recursive: true })
    rmSync(join(this.folder, 'scripts/build-native.mjs'), { force: true })
    for (const name of ['package.json', 'package-lock.json']) cpSync(name, join(this.folder, name))
    // Its sources name nothing of Node: to read those types would be most of what each build takes.
    const config = JSON.parse(readFileSync('tsconfig.json', 'utf8'))
    config.compilerOptions = { ...config.compilerOptions, types: [] }
    this.write('tsconfig.json', JSON.stringify(config))
    symlinkSync(resolve('node_modules'), join(this.folder, 'node_modules'))
    this.write('core/one.ts', 'export const one = 1\n')
    this.write('core/two.ts', 'export const two = 2\n')
    this.write('core/page.html', '<p>one</p>\n')
    this.write('core/console/web/index.html', '<!doctype html><title>one</title>\n')
  }

  write(path: string, text: string): void {
    mkdirSync(join(this.folder, path, '..'), { recursive: true })
    writeFileSync(join(this.folder, path), text)
  }

  has(path: string): boolean {
    return existsSync(join(this.folder, path))
  }

  run(
    script: string,
    args: readonly string[] = [],
    env: NodeJS.ProcessEnv = {},
    flags: readonly string[] = [],
  ) {
    return spawnSync(process.execPath, [...flags, `scripts/${script}`, ...args], {
      cwd: this.folder,
      encoding: 'utf8',
      env: { ...process.env, ...env },
    })
  }

  [Symbol.dispose](): void {
    rmSync(this.folder, { recursive: true, force: true })
  }
}

const succeeded = (run: SpawnSyncReturns<string>) => assert.equal(run.status, 0, run.stderr)
const building = /Building TypeScript/

test('a build happens once, again when a source changes, and output without a source goes away', () => {
  using checkout = new Checkout()
  const first = checkout.run('setup.mjs')
  succeeded(first)
  assert.match(first.stderr, building)
  assert.ok(checkout.has('dist/core/one.js') && checkout.has('dist/core/page.html'))

  // What tests and benchmarks leave beside their sources is not a source.
  checkout.write('test/results/console/login.png', 'a picture\n')
  checkout.write('test/bench/results/sdk.json', '{}\n')
  const second = checkout.run('setup.mjs')
  succeeded(second)
  assert.doesNotMatch(second.stderr, building)

  checkout.write('core/page.html', '<p>two, changed</p>\n')
  assert.match(checkout.run('setup.mjs').stderr, building)

  rmSync(join(checkout.folder, 'core/two.ts'))
  checkout.write('core/one.ts', 'export const one = 1 + 0\n')
  const third = checkout.run('setup.mjs')
  succeeded(third)
  assert.match(third.stderr, building)
  assert.ok(checkout.has('dist/core/one.js'))
  assert.ok(!checkout.has('dist/core/two.js') && !checkout.has('dist/core/two.js.map'))
})

test('a start builds the product alone and judges no types; where tests have been built it keeps all of it current', () => {
  using checkout = new Checkout()
  const declared = 'declare const process: { stdout: { write(text: string): void } }\n'
  checkout.write('core/cli/main.ts', `${declared}process.stdout.write('served\\n')\n`)
  checkout.write('test/law.ts', 'export const law = 1\n')
  const start = (): string => {
    const run = checkout.run('start.mjs')
    succeeded(run)
    assert.equal(run.stdout, 'served\n')
    return run.stderr
  }
  // Types are for those who change them: `npm run check`, `npm test`.
  checkout.write('core/one.ts', "export const one: number = 'one'\n")
  assert.match(start(), building)
  assert.ok(checkout.has('dist/core/one.js') && checkout.has('dist/core/page.html'))
  assert.ok(!checkout.has('dist/test'))
  checkout.write('test/law.ts', 'export const law = 2\n')
  assert.doesNotMatch(start(), building)

  // What a start has built is nobody else's: with the text of the first build the second one still writes its own.
  checkout.write('core/one.ts', 'export const one = 1\n')
  succeeded(checkout.run('setup.mjs'))
  assert.ok(checkout.has('dist/test/law.js'))
  assert.doesNotMatch(start(), building)
  checkout.write('core/one.ts', 'export const one = 3\n')
  assert.match(start(), building)
  const third = readFileSync(join(checkout.folder, 'dist/core/one.js'), 'utf8')
  assert.match(third, /one = 3/)
  checkout.write('core/one.ts', 'export const one = 1\n')
  succeeded(checkout.run('setup.mjs'))
  assert.match(readFileSync(join(checkout.folder, 'dist/core/one.js'), 'utf8'), /one = 1/)
})

test('a build that failed is tried again, and the compiler is quoted', () => {
  using checkout = new Checkout()
  checkout.write('core/one.ts', "export const one: number = 'one'\n")
  for (const attempt of [1, 2]) {
    const run = checkout.run('setup.mjs')
    assert.equal(run.status, 1, `attempt ${attempt}`)
    assert.match(run.stderr, /core\/one\.ts\(1,14\): error TS2322/)
  }
})

test('two set-ups at once wait for each other: one of them builds', async () => {
  using checkout = new Checkout()
  const runs = [1, 2].map(() =>
    spawn(process.execPath, ['scripts/setup.mjs'], {
      cwd: checkout.folder,
      stdio: ['ignore', 'ignore', 'pipe'],
    }),
  )
  const outputs = runs.map(async (run) => {
    let text = ''
    run.stderr.on('data', (bytes) => (text += bytes))
    const [code] = await once(run, 'close')
    assert.equal(code, 0, text)
    return text
  })
  const texts = await Promise.all(outputs)
  assert.equal(texts.filter((text) => building.test(text)).length, 1, texts.join('\n'))
})

test('an old Node is told what is needed', () => {
  using checkout = new Checkout()
  const pretend =
    "Object.defineProperty(process, 'versions', { value: { ...process.versions, node: '20.10.0' } })"
  const run = checkout.run('start.mjs', [], {}, [
    '--import',
    `data:text/javascript,${encodeURIComponent(pretend)}`,
  ])
  assert.equal(run.status, 1)
  assert.match(run.stderr, /Pando needs Node\.js 20\.11 or newer/)
  assert.ok(!checkout.has('dist'))
})

test('without the right to install, the exact command is printed; no compiler means the reference store', () => {
  using checkout = new Checkout()
  // A native build would be wanted, apt-get is there, but neither build tools nor a compiler that works are.
  checkout.write('scripts/build-native.mjs', 'process.exit(1)\n')
  const tools = join(checkout.folder, 'tools')
  mkdirSync(tools)
  // A compiler whose library is not installed finds no header: it is as good as none.
  for (const name of ['apt-get', 'c++', 'clang++'])
    writeFileSync(join(tools, name), '#!/bin/sh\nexit 1\n', { mode: 0o755 })
  const run = checkout.run('start.mjs', [], { PATH: tools, PANDO_INSTALL_PACKAGES: 'no' })
  assert.match(
    run.stderr,
    /apt-get install -y --no-install-recommends g\+\+ cmake ninja-build pkg-config liburing-dev libssl-dev libibverbs-dev librdmacm-dev libisal-dev\n/,
  )
  assert.match(run.stderr, /TypeScript reference store serves instead/)
  assert.ok(checkout.has('dist/core/one.js'), 'the rest of the set-up went on')

  const strict = checkout.run('setup.mjs', [], { PATH: tools, PANDO_INSTALL_PACKAGES: 'no' })
  assert.equal(strict.status, 1, 'tests must not pass without what they test')
})

test('policies are built once and again when a source changes; where that fails a start goes on and the tests do not', () => {
  using checkout = new Checkout()
  checkout.write('plugins/builtin/one/policy.json', '{}\n')
  checkout.write('scripts/build-policies.mjs', "console.log('built')\n")
  const policies = /Building the built-in policies/
  const first = checkout.run('setup.mjs')
  succeeded(first)
  assert.match(first.stderr, policies)
  assert.doesNotMatch(checkout.run('setup.mjs').stderr, policies)
  checkout.write('plugins/builtin/one/policy.json', '{"name": "one"}\n')
  assert.match(checkout.run('setup.mjs').stderr, policies)

  checkout.write('plugins/builtin/one/policy.json', '{"name": "broken"}\n')
  checkout.write('scripts/build-policies.mjs', "console.error('no such type'); process.exit(1)\n")
  const start = checkout.run('start.mjs')
  assert.match(
    start.stderr,
    /no such type[\s\S]*The decisions in TypeScript stand in for the built-in policies/,
  )
  const strict = checkout.run('setup.mjs')
  assert.equal(strict.status, 1)
})

test('as root on Debian, only what is missing is installed, without a question', {
  skip: process.getuid?.() !== 0 && 'not root',
}, () => {
  using checkout = new Checkout()
  const tools = join(checkout.folder, 'tools')
  mkdirSync(tools)
  writeFileSync(
    join(tools, 'apt-get'),
    `#!/bin/sh\necho "$DEBIAN_FRONTEND $*" >> ${checkout.folder}/apt.log\nfor name in wrk fio; do printf '#!/bin/sh\\n' > ${tools}/$name; done\n`,
    { mode: 0o755 },
  )
  writeFileSync(join(tools, 'wrk'), '#!/bin/sh\n', { mode: 0o755 })
  const run = checkout.run('setup.mjs', ['--bench'], { PATH: tools, PANDO_INSTALL_PACKAGES: 'yes' })
  succeeded(run)
  const log = spawnSync('cat', [join(checkout.folder, 'apt.log')], { encoding: 'utf8' }).stdout
  assert.match(log, /^noninteractive install -y --no-install-recommends fio$/m)
})
