import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, readdir, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join, relative } from 'node:path'
import { type CommandOutcome, type RunOptions, runCommand } from '../kit/node-process.ts'
import { digestFile, writeSeededFile } from '../kit/seeded-bytes.ts'
import { openPythonForks, type PythonForks } from './python-forks.ts'
import type { Target } from './target.ts'

/** A temporary directory that is also the HOME of the clients: no configuration of the machine's user leaks in. */
export interface Workspace extends AsyncDisposable {
  readonly directory: string
  readonly env: NodeJS.ProcessEnv
  path(name: string): string
  /** A file of seeded bytes; the result is its hex SHA-256. */
  file(name: string, byteLength: number): Promise<string>
  /** From now on a client in Python is forked from a process that has imported these modules, unless it reads its input. */
  preload(program: string, modules: readonly string[]): Promise<void>
  /** Runs a client; rejects with what it printed unless it exits with 0. */
  run(program: string, args: readonly string[], options?: RunOptions): Promise<CommandOutcome>
  /** Runs a client that is expected to fail; rejects when it exits with 0. */
  fail(program: string, args: readonly string[], options?: RunOptions): Promise<CommandOutcome>
}

export async function openWorkspace(target: Target, extra: NodeJS.ProcessEnv = {}): Promise<Workspace> {
  const directory = await mkdtemp(join(tmpdir(), 'pando-e2e-'))
  const env: NodeJS.ProcessEnv = {
    // Debian's clients first: a pip or pyenv shim of the same name is another version with another behaviour.
    PATH: `/usr/bin:/bin:/usr/sbin:/sbin`,
    HOME: directory,
    TMPDIR: directory,
    LC_ALL: 'C.UTF-8',
    AWS_ACCESS_KEY_ID: target.accessKey,
    AWS_SECRET_ACCESS_KEY: target.secretKey,
    AWS_DEFAULT_REGION: target.region,
    AWS_REGION: target.region,
    AWS_EC2_METADATA_DISABLED: 'true',
    AWS_CONFIG_FILE: join(directory, 'aws-config'),
    AWS_SHARED_CREDENTIALS_FILE: join(directory, 'aws-credentials'),
    AWS_PAGER: '',
    ...extra,
  }
  const preloaded = new Map<string, PythonForks>()
  const run = (
    program: string,
    args: readonly string[],
    options: RunOptions = {},
  ): Promise<CommandOutcome> => {
    const environment = { ...env, ...options.env }
    const forks = options.input === undefined ? preloaded.get(program) : undefined
    return forks === undefined
      ? runCommand(program, args, { cwd: directory, ...options, env: environment })
      : forks.run(args, environment)
  }
  const show = (program: string, args: readonly string[], outcome: CommandOutcome): string =>
    `${program} ${args.join(' ')} exited with ${outcome.code}\n${outcome.stdout.slice(-2000)}\n${outcome.stderr.slice(-4000)}`
  return {
    directory,
    env,
    path: (name) => join(directory, name),
    async file(name, byteLength) {
      const path = join(directory, name)
      await mkdir(dirname(path), { recursive: true })
      return await writeSeededFile(path, name, byteLength)
    },
    async preload(program, modules) {
      const forks = await openPythonForks(program, modules, { folder: directory, env })
      if (forks !== undefined) preloaded.set(program, forks)
    },
    async run(program, args, options) {
      const outcome = await run(program, args, options)
      assert.equal(outcome.code, 0, show(program, args, outcome))
      return outcome
    },
    async fail(program, args, options) {
      const outcome = await run(program, args, options)
      assert.notEqual(outcome.code, 0, show(program, args, outcome))
      return outcome
    },
    async [Symbol.asyncDispose]() {
      for (const forks of preloaded.values()) await forks[Symbol.asyncDispose]()
      await rm(directory, { recursive: true, force: true })
    },
  }
}

/** Relative path -> hex SHA-256 of every file below a directory. */
export async function digestTree(directory: string): Promise<Record<string, string>> {
  const digests: Record<string, string> = {}
  const names = await readdir(directory, { recursive: true })
  for (const name of names.sort()) {
    const path = join(directory, name)
    if ((await stat(path)).isFile()) digests[relative(directory, path)] = await digestFile(path)
  }
  return digests
}

/**
 * A reason to skip when a client is not installed, else false. On CI nothing is skipped: a client that is missing there is
 * a fault of the set-up, and its tests fail.
 */
export function missing(...programs: readonly string[]): string | false {
  const absent = programs.filter((program) => !existsSync(program))
  if (absent.length === 0 || ['true', '1'].includes(process.env['CI'] ?? '')) return false
  return `not installed: ${absent.join(', ')} (Debian packages: awscli rclone restic s3cmd s3fs python3-boto3 python3-pytest)`
}
