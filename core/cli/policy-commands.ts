import type { Command } from 'commander'
import type { GlobalOptions } from './connect.ts'
import type { Action } from './program.ts'

/** Turns a command's module, loaded when it runs, into what commander calls. */
export type Act = <T extends GlobalOptions>(
  load: () => Promise<Action<T>>,
) => (...received: unknown[]) => Promise<void>

const module = '[module]'
const moduleHelp =
  '\nMODULE is a .wasm file or the folder of a project; without it the project of the working directory.\n'

/** `pando policy`: the author's verbs, which need no node. */
export function addPolicyCommands(program: Command, action: Act): Command {
  const policy = program.command('policy').description('policies: WASM modules that decide protocols and QoS')
  policy
    .command('init <folder>')
    .description('make a project that builds and passes its tests')
    .option('--name <name>', 'name of the policy; default the name of the folder')
    .option('--no-install', 'do not run npm install')
    .action(
      action<GlobalOptions & { name?: string; install: boolean }>(
        async () => (await import('./policy-project.ts')).initProject,
      ),
    )
  policy
    .command('build [folder]')
    .description('compile a project and add its manifest and golden vectors')
    .option('--debug', 'with assertions and names; a node refuses such a module')
    .action(
      action<GlobalOptions & { debug?: boolean }>(
        async () => (await import('./policy-project.ts')).buildProject,
      ),
    )
  policy
    .command(`inspect ${module}`)
    .description('what a module is, what it may do and whether a node would load it')
    .addHelpText('after', moduleHelp)
    .action(action(async () => (await import('./policy-inspect.ts')).inspectPolicy))
  policy
    .command(`test ${module}`)
    .description('ask the golden vectors')
    .option('--debug', 'build the project with assertions first, and show messages and lines of traps')
    .addHelpText('after', moduleHelp)
    .action(
      action<GlobalOptions & { debug?: boolean }>(
        async () => (await import('./policy-inspect.ts')).testPolicy,
      ),
    )
  policy
    .command(`bench ${module}`)
    .description('fuel and time of each hook')
    .option('--round-ms <ms>', 'length of a round', '50')
    .addHelpText('after', moduleHelp)
    .action(
      action<GlobalOptions & { roundMs: string }>(async () => (await import('./policy-measure.ts')).bench),
    )
  policy
    .command(`fuzz ${module}`)
    .description('ask what nobody thought of: traps, invalid decisions, too much fuel, hidden state')
    .option('--rounds <count>', 'rounds; each asks every hook', '5000')
    .option('--seed <number>', 'repeat a run')
    .option('--settings <file>', 'settings for pando_init, JSON')
    .addHelpText('after', moduleHelp)
    .action(
      action<GlobalOptions & { rounds: string; seed?: string; settings?: string }>(
        async () => (await import('./policy-measure.ts')).fuzz,
      ),
    )
  policy
    .command(`replay <trace> ${module}`)
    .description('run a policy over decisions recorded on a node, and tell what would have changed')
    .option('--settings <file>', 'settings for pando_init, JSON')
    .option('--examples <count>', 'changed decisions to show', '10')
    .addHelpText('after', moduleHelp)
    .action(
      action<GlobalOptions & { settings?: string; examples: string }>(
        async () => (await import('./policy-measure.ts')).replay,
      ),
    )
  policy
    .command('diff <first> <second>')
    .description('ask two policies the same, and tell where they part')
    .option('--trace <file>', 'inputs recorded on a node; default: the golden vectors and 2000 random inputs')
    .option('--settings <file>', 'settings for pando_init, JSON')
    .option('--examples <count>', 'differences to show', '10')
    .action(
      action<GlobalOptions & { settings?: string; examples: string; trace?: string }>(
        async () => (await import('./policy-measure.ts')).diff,
      ),
    )
  policy
    .command(`sign ${module}`)
    .description('sign a module with an Ed25519 key, into MODULE.sig')
    .requiredOption('--key <file>', 'private key, PEM (PKCS #8)')
    .option('--new-key', 'make the key first; its file must not exist')
    .addHelpText('after', moduleHelp)
    .action(
      action<GlobalOptions & { key: string; newKey?: boolean }>(
        async () => (await import('./policy-sign.ts')).signPolicy,
      ),
    )
  return policy
}
