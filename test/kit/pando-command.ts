import type { CommandOutcome } from './node-process.ts'

export interface PandoCommandOptions {
  /** All of its environment. */
  readonly env: NodeJS.ProcessEnv
  /** Default the one of this process. */
  readonly cwd?: string
  /** Rejects after this time. Default 300 s. */
  readonly timeoutMs?: number
}

/**
 * A `pando` command in this process: the program itself with buffers for its terminal, so everything but the first lines of
 * core/cli/main.ts. A process of its own for each would cost a third of a second of processor time, of which a question to a node is a
 * hundredth. Not for what runs until it is told to end, reads standard input or opens the store of a node.
 */
export async function pandoCommand(
  args: readonly string[],
  { env, cwd = process.cwd(), timeoutMs = 300_000 }: PandoCommandOptions,
): Promise<CommandOutcome> {
  // Most files that start a node give no command.
  const [{ run }, { packageVersion }] = await Promise.all([
    import('../../core/cli/program.ts'),
    import('../../core/cli/package-version.ts'),
  ])
  const printed = { stdout: '', stderr: '' }
  const running = run(
    args,
    {
      out(text) {
        printed.stdout += text
      },
      err(text) {
        printed.stderr += text
      },
      isInteractive: false,
      columns: 80,
      environment: env,
      workingDirectory: cwd,
    },
    packageVersion(),
  )
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      const { stdout, stderr } = printed
      reject(new Error(`pando ${args.join(' ')} runs after ${timeoutMs} ms\n${stdout}\n${stderr}`))
    }, timeoutMs)
  })
  try {
    const code = await Promise.race([running, late])
    return { code, ...printed }
  } finally {
    clearTimeout(timer)
  }
}
