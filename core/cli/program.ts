import { Command, CommanderError } from 'commander'
import { StorageError } from '../contract/errors.ts'
import { addClusterCommands } from './cluster-commands.ts'
import { advice, type GlobalOptions } from './connect.ts'
import { addEdgeCommands } from './edge-commands.ts'
import { exitCodes, exitFor } from './exit-codes.ts'
import { addFailoverCommands } from './failover-commands.ts'
import { addFederationCommands } from './federation-commands.ts'
import { addPolicyCommands } from './policy-commands.ts'
import { addPolicyNodeCommands } from './policy-node-commands.ts'
import { addRegionConfigCommands } from './region-config-commands.ts'
import { addReplicationCommands } from './replication-commands.ts'
import type { Terminal } from './terminal.ts'
import type { TopOptions } from './top/top.ts'
import type { UpOptions } from './up.ts'

/** What a command gets: options of its own merged with the global ones. */
export type Action<T extends GlobalOptions = GlobalOptions> = (
  terminal: Terminal,
  options: T,
  ...args: string[]
) => Promise<number>

/**
 * Runs the command line and resolves with the exit code. Commands load their modules when they run: `pando --help` and
 * `pando version` load neither gRPC nor the node.
 */
export async function run(args: readonly string[], terminal: Terminal, version: string): Promise<number> {
  let exit = 0
  const program = new Command('pando')
    .description('Edge-to-cloud federated object storage: one command runs a region.')
    .version(version, '-V, --version', 'print the version')
    .option('-c, --config <file>', 'configuration file, YAML or JSON (also PANDO_CONFIG)')
    .option('-d, --data <directory>', 'data directory (also PANDO_DATA)')
    .option(
      '-n, --node <name>',
      'which node of the cluster in the configuration file is meant (also PANDO_NODE)',
    )
    .option(
      '-e, --endpoint <host:port>',
      'admin service of another machine, https://HOST:PORT with TLS; needs the root key (also PANDO_ADMIN_ENDPOINT)',
    )
    .option(
      '--ca-file <file>',
      'authority of the certificate at an https:// endpoint, when this machine does not trust it (also PANDO_CA_FILE)',
    )
    .option('--json', 'machine-readable output')
    .showHelpAfterError("(see 'pando --help')")
    .showSuggestionAfterError()
    .exitOverride()
    .configureOutput({ writeOut: (text) => terminal.out(text), writeErr: (text) => terminal.err(text) })
    .addHelpText('after', `\nExit codes:\n${exitHelp()}`)

  const action =
    <T extends GlobalOptions>(load: () => Promise<Action<T>>) =>
    async (...received: unknown[]): Promise<void> => {
      const command = received.at(-1) as Command
      const run = await load()
      exit = await run(terminal, command.optsWithGlobals<T>(), ...command.args)
    }

  program
    .command('up')
    .description('run a node in the foreground until SIGTERM or SIGINT')
    .option(
      '--role <role>',
      'region (default), edge: dials out only and works while it is cut off, or witness: votes in failover groups and holds no bucket',
    )
    .action(action<UpOptions>(async () => (await import('./up.ts')).up))
  program
    .command('status')
    .description('what the node is doing')
    .action(action(async () => (await import('./status.ts')).showStatus))
  program
    .command('top')
    .description('requests, latencies, links and replication of the node, live; q or Ctrl-C quits')
    .option('--interval <time>', 'between two looks: 500ms to 1m', '1s')
    .option('--once', 'one look over one interval, then end')
    .action(action<TopOptions>(async () => (await import('./top/top.ts')).top))
  program
    .command('stop')
    .description('stop the node gracefully')
    .action(action(async () => (await import('./status.ts')).stopNode))

  const bucket = program.command('bucket').description('buckets of the region')
  bucket
    .command('list')
    .description('all buckets')
    .action(action(async () => (await import('./bucket.ts')).listBuckets))
  bucket
    .command('create <name>')
    .description('make a bucket')
    .option('--owner <account>', 'account that owns it', 'root')
    .action(action<GlobalOptions & { owner: string }>(async () => (await import('./bucket.ts')).createBucket))
  bucket
    .command('delete <name>')
    .description('delete an empty bucket')
    .action(action(async () => (await import('./bucket.ts')).deleteBucket))
  bucket
    .command('stat <name>')
    .description('count objects and bytes of a bucket (reads the whole listing)')
    .action(action(async () => (await import('./bucket.ts')).statBucket))

  const key = program.command('key').description('access keys for S3')
  key
    .command('list')
    .description('all access keys, without secrets')
    .action(action(async () => (await import('./key.ts')).listKeys))
  key
    .command('create [name]')
    .description('make an access key; its secret is shown once')
    .option('--account <account>', 'account it belongs to; made with its first key', 'root')
    .option('--access-key <id>', 'import a pair made elsewhere; the secret comes from --secret-file')
    .option('--secret-file <file>', 'file with the secret of --access-key; - reads standard input')
    .option('--regions <ids>', 'joined regions that are to know it too, for example 2,3')
    .action(
      action<GlobalOptions & { account: string; accessKey?: string; secretFile?: string; regions?: string }>(
        async () => (await import('./key.ts')).createKey,
      ),
    )
  key
    .command('share <access-key> <regions>')
    .description('in which joined regions a key is known beside this one: their numbers, or none')
    .action(action(async () => (await import('./sharing.ts')).shareKey))
  key
    .command('disable <access-key>')
    .description('refuse requests signed with a key, from the next one on')
    .action(action(async () => (await import('./key.ts')).disableKey))
  key
    .command('enable <access-key>')
    .description('accept a disabled key again')
    .action(action(async () => (await import('./key.ts')).enableKey))

  const debug = program.command('debug').description('look into a running node')
  debug
    .command('scan')
    .description('compare chunk store and catalog: orphans and missing chunks')
    .option('--repair', 'free the orphans that are found')
    .action(action<GlobalOptions & { repair?: boolean }>(async () => (await import('./debug.ts')).scan))
  debug
    .command('scrub')
    .description('read every stored byte and check it')
    .action(action(async () => (await import('./debug.ts')).scrub))
  debug
    .command('collect')
    .description('free the space of deleted objects now')
    .action(action(async () => (await import('./debug.ts')).collect))
  debug
    .command('stats')
    .description('numbers of the store, the catalog and the process')
    .action(action(async () => (await import('./debug.ts')).stats))
  debug
    .command('links')
    .description('connections to other nodes: transports, measurements, which one is in use and why')
    .option('-w, --watch', 'again every second, until interrupted')
    .action(action<GlobalOptions & { watch?: boolean }>(async () => (await import('./links.ts')).showLinks))

  addPolicyNodeCommands(addPolicyCommands(program, action), action)
  addClusterCommands(program, action)
  addFederationCommands(program, action)
  addReplicationCommands(program, action)
  addEdgeCommands(program, action)
  addFailoverCommands(program, action)
  program
    .command('demo')
    .description('show what this can do, on this machine, with nothing left behind')
    .command('federation')
    .description('two regions and a witness: lose the primary under load, fail over, fail back, count')
    .action(action(async () => (await import('./demo.ts')).demoFederation))

  program
    .command('audit')
    .description('the audit log')
    .command('verify <files...>')
    .description('read its files, oldest first: is every record there, and as it was written?')
    .action(action<GlobalOptions>(async () => (await import('./audit.ts')).verifyAuditFiles))

  const config = program.command('config').description('the configuration file')
  config
    .command('validate [file]')
    .description('check a file without starting anything')
    .option('--region', 'as one for the whole region: without keys that each node has its own of')
    .action(
      action<GlobalOptions & { region?: boolean }>(async () => (await import('./config.ts')).validateConfig),
    )
  config
    .command('schema')
    .description('every key with its type, default and meaning; --json prints a JSON Schema')
    .action(action(async () => (await import('./config.ts')).showSchema))
  config
    .command('show [version]')
    .description(
      'the configuration of this node: file, environment and command line together; or a version of that of the region',
    )
    .action(action(async () => (await import('./config.ts')).showConfig))
  addRegionConfigCommands(config, action)

  config
    .command('reload')
    .description(
      'let the running node read its file again (also: SIGHUP); quality of service changes at once',
    )
    .action(action(async () => (await import('./config.ts')).reloadConfig))

  program
    .command('doctor')
    .description('check this machine: what each part needs, what is missing, what to do')
    .action(action(async () => (await import('./doctor.ts')).doctor))
  program
    .command('version')
    .description('print the version')
    .action(
      action(async () => async (terminal, options) => {
        terminal.out(
          options.json === true ? `${JSON.stringify({ version, node: process.version })}\n` : `${version}\n`,
        )
        return 0
      }),
    )

  tellOfGlobalOptions(program)

  try {
    await program.parseAsync([...args], { from: 'user' })
    return exit
  } catch (reason) {
    // Commander has printed its own message; help and version end with code 0.
    if (reason instanceof CommanderError) return reason.exitCode === 0 ? 0 : exitCodes.usage[0]
    return fail(terminal, StorageError.from(reason), args.includes('--json'))
  }
}

/** Below the help of each command, and where its command line is wrong: what its own list does not say. */
function tellOfGlobalOptions(parent: Command, path = 'pando'): void {
  for (const command of parent.commands) {
    const name = `${path} ${command.name()}`
    command
      .addHelpText(
        'after',
        "\nEvery command takes --data, --config, --node, --endpoint and --json: see 'pando --help'",
      )
      .showHelpAfterError(`(see '${name} --help')`)
    tellOfGlobalOptions(command, name)
  }
}

/** Tells an error and what to do about it; returns the exit code. */
export function fail(terminal: Terminal, error: StorageError, json: boolean): number {
  const code = exitFor(error)
  const hint = advice(error)
  if (json) {
    terminal.out(
      `${JSON.stringify({ error: { code: error.code, message: error.reason, hint }, exitCode: code })}\n`,
    )
  }
  terminal.err(`pando: ${error.reason}\n${hint === undefined ? '' : `  ${hint}\n`}`)
  return code
}

function exitHelp(): string {
  return Object.values(exitCodes)
    .map(([code, meaning]) => `  ${code}  ${meaning}\n`)
    .join('')
}
