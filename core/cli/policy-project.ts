import { spawn } from 'node:child_process'
import { basename, relative, resolve } from 'node:path'
import { buildPolicy, writePolicy } from '../../plugins/kit/build-policy.ts'
import { createProject } from '../../plugins/kit/new-project.ts'
import { ProjectProblem, readProject } from '../../plugins/kit/policy-project.ts'
import { StorageError } from '../contract/errors.ts'
import { formatDuration } from '../node/config/quantities.ts'
import type { GlobalOptions } from './connect.ts'
import { exitCodes } from './exit-codes.ts'
import { packageVersion } from './package-version.ts'
import { explained } from './policy-module.ts'
import { ProgressLine, type Terminal } from './terminal.ts'

export interface InitOptions extends GlobalOptions {
  readonly name?: string
  readonly install: boolean
}

export async function initProject(terminal: Terminal, options: InitOptions, folder = ''): Promise<number> {
  const path = resolve(terminal.workingDirectory, folder)
  const name = options.name ?? basename(path)
  explained(() => createProject({ folder: path, name, version: packageVersion() }))
  const installed = options.install && (await installPackages(terminal, path))
  if (options.json === true) {
    terminal.out(`${JSON.stringify({ name, folder: path, installed })}\n`)
    return exitCodes.ok[0]
  }
  const enter = relative(terminal.workingDirectory, path)
  const steps = [
    ...(enter === '' ? [] : [`cd ${enter}`]),
    ...(installed ? [] : ['npm install']),
    'npm run build && npm test',
    'pando policy push',
  ]
  terminal.out(
    `made the policy '${name}' in ${path}\n\nnext:\n${steps.map((step) => `  ${step}\n`).join('')}`,
  )
  return exitCodes.ok[0]
}

/** false = it did not work, which is told and is no failure: the project is there, and npm can be run later. */
async function installPackages(terminal: Terminal, folder: string): Promise<boolean> {
  const progress = new ProgressLine(terminal)
  const began = performance.now()
  const ticker = setInterval(
    () => progress.update(`npm install  ${formatDuration(performance.now() - began)}`, 0, 0),
    200,
  )
  let output = ''
  const code = await new Promise<number>((settle) => {
    const child = spawn('npm', ['install', '--no-progress', '--loglevel=error'], {
      cwd: folder,
      env: terminal.environment as NodeJS.ProcessEnv,
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (bytes) => {
        output = (output + bytes).slice(-4000)
      })
    }
    child.on('error', (error) => {
      output = error.message
      settle(1)
    })
    child.on('close', (exit) => settle(exit ?? 1))
  })
  clearInterval(ticker)
  progress.clear()
  if (code !== 0) terminal.err(`pando: npm install did not work:\n${output.trim()}\n`)
  return code === 0
}

export interface BuildOptions extends GlobalOptions {
  readonly debug?: boolean
}

export async function buildProject(terminal: Terminal, options: BuildOptions, folder = '.'): Promise<number> {
  const project = explained(() => readProject(resolve(terminal.workingDirectory, folder)))
  const began = performance.now()
  const built = await compile(project, options)
  const path = writePolicy(project, built.wasm)
  const { hooks, vectorCount } = built
  if (options.json === true) {
    terminal.out(`${JSON.stringify({ path, byteLength: built.wasm.length, hooks, vectors: vectorCount })}\n`)
  } else {
    const where = relative(terminal.workingDirectory, path)
    const took = formatDuration(performance.now() - began)
    terminal.out(
      `${where}: ${built.wasm.length} bytes, hooks ${hooks.join(', ') || 'none'}, ${vectorCount} golden vectors (${took})\n`,
    )
  }
  if (hooks.length === 0) terminal.err('pando: no hook is exported: the policy would decide nothing\n')
  return exitCodes.ok[0]
}

/** What the compiler says is the answer, not an accident. */
export async function compile(project: Parameters<typeof buildPolicy>[0], { debug = false }: BuildOptions) {
  try {
    return await buildPolicy(project, { debug })
  } catch (error) {
    throw error instanceof ProjectProblem
      ? new StorageError('INVALID_REQUEST', error.message, { cause: error })
      : error
  }
}
