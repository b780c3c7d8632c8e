import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFile, rm } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { createInterface } from 'node:readline'
import type { CommandOutcome } from '../kit/node-process.ts'

/**
 * Runs a Python program again and again, each time in a process of its own that is forked after what it imports was imported: a start of the
 * AWS CLI takes a second of processor time, three quarters of it to import. Standard input is empty.
 */
export interface PythonForks extends AsyncDisposable {
  run(args: readonly string[], env: NodeJS.ProcessEnv): Promise<CommandOutcome>
}

/** `folder` is where the program runs and for what it prints. Undefined for a program that is none of a `python3`. */
export async function openPythonForks(
  program: string,
  modules: readonly string[],
  { folder, env }: { readonly folder: string; readonly env: NodeJS.ProcessEnv },
): Promise<PythonForks | undefined> {
  const interpreter = /^#! ?(\/\S+\/python3)\n/.exec(await readFile(program, 'latin1'))?.[1]
  if (interpreter === undefined) return undefined
  const server = spawn(interpreter, [resolve('test/e2e/python-forks.py'), program, ...modules], {
    env,
    cwd: folder,
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  const closed = once(server, 'close')
  server.stdin.on('error', () => {}) // it may have ended: the answer that does not come tells
  const codes = createInterface({ input: server.stdout })[Symbol.asyncIterator]()
  let last: Promise<unknown> = Promise.resolve()
  let count = 0

  const run = async (args: readonly string[], environment: NodeJS.ProcessEnv): Promise<CommandOutcome> => {
    count += 1
    const [stdout, stderr] = [join(folder, `.printed-${count}`), join(folder, `.told-${count}`)]
    server.stdin.write(`${JSON.stringify({ args, env: environment, stdin: '/dev/null', stdout, stderr })}\n`)
    const { value, done } = await codes.next()
    if (done === true) throw new Error(`the process that forks ${program} has ended`)
    const outcome = {
      code: Number(value),
      stdout: await readFile(stdout, 'utf8'),
      stderr: await readFile(stderr, 'utf8'),
    }
    await Promise.all([rm(stdout), rm(stderr)])
    return outcome
  }
  return {
    run(args, environment) {
      const outcome = last.then(() => run(args, environment))
      last = outcome.catch(() => {})
      return outcome
    },
    async [Symbol.asyncDispose]() {
      server.stdin.end()
      await closed
    },
  }
}
