import type { Command } from 'commander'
import type { Act } from './policy-commands.ts'
import type { ActivateOptions, PushOptions } from './policy-deploy.ts'
import type { ExplainOptions, RecordOptions } from './policy-view.ts'

/** The verbs of `pando policy` that talk to a node; those that need none are in a file of their own. */
export function addPolicyNodeCommands(policy: Command, action: Act): void {
  const deploy = () => import('./policy-deploy.ts')
  const view = () => import('./policy-view.ts')
  policy
    .command('push [module]')
    .description(
      'check a policy on the node and keep it there; a .wasm file or the folder of a project, default: this one',
    )
    .option('--signature <file>', 'its signature; default MODULE.sig, where there is one')
    .option('--settings <file>', 'JSON for the policy, to test it with and to activate it with')
    .option('--activate', 'let it serve all requests at once')
    .option('--federation', 'offer it to all joined regions as well')
    .option('--regions <ids>', 'offer it to these regions as well, for example 2,3')
    .action(action<PushOptions>(async () => (await deploy()).pushPolicy))
  policy
    .command('activate <name> [digest]')
    .description('put a pushed policy to work, by default the one pushed last')
    .option('--settings <file>', 'JSON for the policy')
    .option('--position <place>', 'place in the chain: 0 is asked first')
    .option('--shadow <calls>', 'first so many calls compared, not used')
    .option('--canary <percent>', 'then so many percent of the requests')
    .option('--canary-calls <calls>', 'calls of the canary before it gets all', '1000')
    .option('--step-timeout <duration>', 'give up when a step lasts longer', '10m')
    .option('--federation', 'in all joined regions as well, each with a canary of its own')
    .option('--regions <ids>', 'in these regions as well, for example 2,3')
    .action(action<ActivateOptions>(async () => (await deploy()).activatePolicy))
  policy
    .command('rollback <name> [digest]')
    .description('back to the version before, or to the one named; ends a canary')
    .action(action(async () => (await deploy()).rollbackPolicy))
  policy
    .command('deactivate <name>')
    .description('ask it no more; its history stays')
    .action(action(async () => (await deploy()).deactivatePolicy))
  policy
    .command('status')
    .description('what serves, how far each version came, what it did, what failed and why')
    .action(action(async () => (await view()).showPolicyStatus))
  policy
    .command('list')
    .description('packages that the region keeps')
    .action(action(async () => (await view()).listPolicies))
  policy
    .command('explain [request-id]')
    .description('why a request was treated as it was; without an id: the last ones')
    .option(
      '--hook <hook>',
      'in place of requests: the last sampled calls of select, classify, admit, plan or resolve',
    )
    .option('--last <count>', 'how many requests', '20')
    .action(action<ExplainOptions>(async () => (await view()).explainPolicy))
  policy
    .command('record')
    .description("the last sampled calls as a trace for 'pando policy replay'")
    .option('-o, --output <file>', 'where to; default standard output')
    .action(action<RecordOptions>(async () => (await view()).recordPolicies))
}
