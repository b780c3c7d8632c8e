import { createHash } from 'node:crypto'
import { cpSync, existsSync, lstatSync, mkdirSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { availableParallelism } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { fingerprintFile, fingerprintTree, isCurrent, listFiles, noteCurrent } from './fingerprint.mjs'
import { ensureLabKernel } from './lab-kernel.mjs'
import { ensurePackages, optionalPackages } from './system-packages.mjs'
import { runStep, SetupError, say, warn } from './terminal.mjs'

/** The checkout. Runs before anything is installed: this folder uses Node's own modules only. */
export const root = dirname(dirname(fileURLToPath(import.meta.url)))
const cacheFolder = join(root, '.cache')
const productFolders = ['core', 'federation', 'native', 'plugins', 'sdk']
const sourceFolders = [...productFolders, 'test']

/**
 * Brings the checkout to a state that can run: packages of the system, npm packages, native build, TypeScript build. Each
 * step is skipped when its inputs have not changed, which takes some tens of milliseconds altogether.
 *
 * `tests` adds what the tests need; `productOnly` leaves their code and the check of types out; `strict` makes a failed native build an error (a start falls back to the
 * reference store instead); `force` builds again; `packagesOnly` stops after the npm packages; `googleTests` builds those
 * too.
 */
export async function prepare({
  tests = false,
  productOnly = false,
  strict = false,
  force = false,
  packagesOnly = false,
  googleTests = false,
  also = [],
} = {}) {
  checkNode()
  await withSetupLock(async () => {
    if (also.length > 0) await ensurePackages(also, { cacheFolder })
    if (also.includes('lab')) await ensureLabKernel({ cacheFolder })
    await installNpmPackages()
    if (packagesOnly) return
    await buildNative({ tests, strict, force })
    if (googleTests) await buildGoogleTests()
    await buildTypeScript({ force, productOnly })
    await buildPolicies({ strict, force })
    await buildConsole({ strict, force })
  })
}

/** The system packages alone. */
export async function prepareSystem(wanted) {
  checkNode()
  const missing = await withSetupLock(async () => {
    const names = await ensurePackages(wanted, { cacheFolder })
    if (wanted.includes('lab')) await ensureLabKernel({ cacheFolder })
    return names
  })
  if (missing.length > 0) throw new SetupError(`still missing: ${missing.join(', ')}`)
}

function checkNode() {
  const wanted = [20, 11]
  const [major, minor] = process.versions.node.split('.').map(Number)
  if (major > wanted[0] || (major === wanted[0] && minor >= wanted[1])) return
  throw new SetupError(
    `Pando needs Node.js ${wanted.join('.')} or newer; this is ${process.version} (${process.execPath}).`,
  )
}

async function installNpmPackages() {
  const modules = join(root, 'node_modules')
  const stamp = join(modules, '.pando-stamp')
  const value = fingerprintFile(
    join(root, 'package-lock.json'),
    process.platform,
    process.arch,
    process.versions.modules,
  )
  if (isCurrent(stamp, value)) return
  if (existsSync(modules) && lstatSync(modules).isSymbolicLink()) {
    // `npm ci` would empty the folder behind the link, which another checkout may be using.
    return
  }
  const npmScript = process.env.npm_execpath
  const viaNode = npmScript !== undefined && basename(npmScript) === 'npm-cli.js'
  const args = ['ci', '--ignore-scripts', '--include=dev', '--no-audit', '--no-fund']
  await runStep(
    'Installing npm packages',
    viaNode ? process.execPath : 'npm',
    viaNode ? [npmScript, ...args] : args,
    {
      cwd: root,
      logPath: join(cacheFolder, 'npm-ci.log'),
    },
  )
  noteCurrent(stamp, value)
}

async function buildNative({ tests, strict, force }) {
  const script = join(root, 'scripts/build-native.mjs')
  if (!existsSync(script)) return
  const isInput = (path) => !path.endsWith('.ts') && !path.endsWith('.md')
  const stamp = join(root, 'native/build/.stamp')
  const value = fingerprintTree(root, ['native', 'scripts/build-native.mjs'], isInput)
  if (!force && isCurrent(stamp, value)) {
    if (tests) await ensurePackages(['test'], { cacheFolder })
    return
  }
  const missing = await ensurePackages(tests ? ['build', 'test'] : ['build'], { cacheFolder })
  // Without liburing the store uses its posix back end, without the two RDMA libraries there is no rdma transport; without
  // the rest there is no native build at all.
  if (missing.some((name) => !optionalPackages.includes(name))) {
    const text =
      'the native data plane cannot be built here; the TypeScript reference store serves instead (correct, slower)'
    if (strict && process.env.PANDO_STORE !== 'reference') throw new SetupError(text)
    warn(text)
    return
  }
  try {
    await runStep('Building the native data plane (once; a minute or two)', process.execPath, [script], {
      cwd: root,
      logPath: join(cacheFolder, 'build-native.log'),
    })
    mkdirSync(dirname(stamp), { recursive: true })
    noteCurrent(stamp, value)
  } catch (error) {
    if (strict || !(error instanceof SetupError)) throw error
    warn(`${error.message}\nThe TypeScript reference store serves instead (correct, slower).`)
  }
}

/** The C++ tests, beside the addon in the same build folder. What is missing for them makes that suite skip, and say so. */
async function buildGoogleTests() {
  if (!existsSync(join(root, 'native/test/CMakeLists.txt'))) return
  const stamp = join(root, 'native/build/.tests-stamp')
  const value = fingerprintTree(root, ['native'], (path) => !path.endsWith('.ts') && !path.endsWith('.md'))
  if (isCurrent(stamp, value)) return
  const missing = await ensurePackages(['build', 'test'], { cacheFolder })
  if (missing.some((name) => name === 'libgtest-dev' || !optionalPackages.includes(name))) return
  const cwd = join(root, 'native')
  const cmake = (title, args) =>
    runStep(title, 'cmake', args, { cwd, logPath: join(cacheFolder, 'build-tests.log') })
  await cmake('Configuring the native tests', ['--preset', 'release', '-DPANDO_TESTS=ON'])
  await cmake('Building the native tests', [
    '--build',
    '--preset',
    'release',
    '-j',
    String(availableParallelism()),
  ])
  noteCurrent(stamp, value)
}

async function buildTypeScript({ force, productOnly }) {
  // Where everything has been built before, what has changed since is built faster than the product alone would be. The other way round,
  // each would take for its own what the other has written: so there is one of the two only.
  const wholeInfo = join(root, 'dist/.tsbuildinfo')
  const isWhole = !productOnly || existsSync(wholeInfo)
  const project = isWhole ? 'tsconfig.json' : 'scripts/tsconfig.product.json'
  const stamp = join(root, isWhole ? 'dist/.stamp' : 'dist/.stamp-product')
  // Only what the step reads: tests leave screenshots and reports beside their sources, which are no reason to build again.
  const settings = ['tsconfig.json', 'scripts/tsconfig.product.json', 'package-lock.json']
  const isInput = (path) => path.endsWith('.ts') || isAsset(path) || settings.includes(path)
  const folders = isWhole ? sourceFolders : productFolders
  const value = fingerprintTree(root, [...folders, ...settings], isInput)
  if (!force && isCurrent(stamp, value)) return
  const compiler = join(root, 'node_modules/typescript/bin/tsc')
  if (!existsSync(compiler)) throw new SetupError('TypeScript is not installed; run `npm ci` and try again.')
  rmSync(stamp, { force: true })
  removeStaleOutput()
  await runStep('Building TypeScript', process.execPath, [compiler, '-p', project], {
    cwd: root,
    logPath: join(cacheFolder, 'build-typescript.log'),
  })
  copyAssets()
  noteCurrent(stamp, value)
}

/** The built-in policies. Without them the node serves with decisions in TypeScript, and says so. */
async function buildPolicies({ strict, force }) {
  const script = join(root, 'scripts/build-policies.mjs')
  if (!existsSync(script) || !existsSync(join(root, 'plugins/builtin'))) return
  const stamp = join(root, 'dist/.policies-stamp')
  const inputs = [
    'plugins/abi',
    'plugins/builtin',
    'plugins/kit',
    'plugins/pdk',
    'asconfig.json',
    'package-lock.json',
  ]
  const value = fingerprintTree(root, inputs, (path) => !path.endsWith('.md'))
  if (!force && isCurrent(stamp, value)) return
  rmSync(stamp, { force: true })
  try {
    await runStep('Building the built-in policies', process.execPath, [script], {
      cwd: root,
      logPath: join(cacheFolder, 'build-policies.log'),
    })
    noteCurrent(stamp, value)
  } catch (error) {
    if (strict || !(error instanceof SetupError)) throw error
    warn(`${error.message}\nThe decisions in TypeScript stand in for the built-in policies.`)
  }
}

/** The pages of the console. Without them the node serves the console's HTTP API, and says so. */
async function buildConsole({ strict, force }) {
  const stamp = join(root, 'dist/.console-stamp')
  const inputs = [
    'core/console/web',
    'core/contract',
    'sdk',
    'scripts/build-console.mjs',
    'package-lock.json',
  ]
  const value = fingerprintTree(root, inputs, (path) => !path.endsWith('.md'))
  if (!force && isCurrent(stamp, value)) return
  rmSync(stamp, { force: true })
  try {
    await runStep('Building the console', process.execPath, [join(root, 'scripts/build-console.mjs')], {
      cwd: root,
      logPath: join(cacheFolder, 'build-console.log'),
    })
    noteCurrent(stamp, value)
  } catch (error) {
    if (strict || !(error instanceof SetupError)) throw error
    warn(
      `${error.message}\nThe console has no pages; its HTTP API serves. (Building them needs Node.js 20.19 or newer.)`,
    )
  }
}

/** Output whose source is gone would still be loaded, and its tests still run. */
function removeStaleOutput() {
  for (const { path } of listFiles(join(root, 'dist'), sourceFolders)) {
    const source = path.replace(/\.d\.([cm]?)ts$|\.([cm]?)js(\.map)?$/, '.$1$2ts')
    if (source !== path && !existsSync(join(root, source))) rmSync(join(root, 'dist', path))
  }
}

/** What the code reads from beside itself (.proto files, schemas). */
function isAsset(path) {
  return (
    /^(core|federation|plugins|sdk)\//.test(path) &&
    !/\.(ts|md|cc|h|txt)$/.test(path) &&
    !path.startsWith('core/console/web/')
  )
}

/** Mirrors them into dist/, where the compiled code looks. */
function copyAssets() {
  for (const { path } of listFiles(root, sourceFolders, isAsset))
    cpSync(join(root, path), join(root, 'dist', path))
}

/**
 * Two starts in one checkout must not build into each other. The lock is an abstract socket, which the kernel gives back
 * however its owner ends: there is no stale lock to judge. Other systems than Linux have none, and no lock.
 */
async function withSetupLock(work) {
  mkdirSync(cacheFolder, { recursive: true })
  if (process.platform !== 'linux') return work()
  const name = `\0pando-setup-${createHash('sha256').update(root).digest('hex')}`
  const server = createServer()
  for (let told = false; !(await listens(server, name)); told = true) {
    if (!told) say('waiting for another set-up of this checkout')
    await sleep(100)
  }
  try {
    return await work()
  } finally {
    server.close()
  }
}

function listens(server, path) {
  return new Promise((resolve, reject) => {
    const onError = (error) => (error.code === 'EADDRINUSE' ? resolve(false) : reject(error))
    server.once('error', onError)
    server.listen(path, () => {
      server.off('error', onError)
      resolve(true)
    })
  })
}
