import type { Command } from 'commander'
import type { ChangeOptions, InitOptions } from './cluster-options.ts'
import type { RecoverOptions } from './cluster-recover.ts'
import type { GlobalOptions } from './connect.ts'
import type { Action } from './program.ts'

type MakeAction = <T extends GlobalOptions>(
  load: () => Promise<Action<T>>,
) => (...received: unknown[]) => Promise<void>

/** `pando cluster` and `pando node`. */
export function addClusterCommands(program: Command, action: MakeAction): void {
  const cluster = program.command('cluster').description('a region of several nodes')
  cluster
    .command('init <node...>')
    .description(
      'write cluster.yaml and the keys of each node; NODE is NAME=ADDRESS[,zone=ZONE][,rack=RACK], or with --discovery NAME alone',
    )
    .option('--directory <directory>', 'where they are written', 'cluster')
    .option('--region <name>', 'name of the region', 'us-east-1')
    .option('--replicas <count>', 'copies of each chunk', '3')
    .option('--discovery <source...>', 'how nodes find each other: dns:NAME, dns:NAME?type=SRV, multicast')
    .option('--from <data>', 'data directory of a node that is to be the first one, with all that it holds')
    .action(action<InitOptions>(async () => (await import('./cluster-init.ts')).initCluster))
  cluster
    .command('add-node <node>')
    .description('write a new node into cluster.yaml and make its keys; NODE as of init')
    .option('--directory <directory>', 'what init wrote', 'cluster')
    .action(action<InitOptions>(async () => (await import('./cluster-init.ts')).addNode))
  cluster
    .command('status')
    .description('whether data is safe now, what is being done about it, and each node')
    .option('-w, --watch', 'again every second, until interrupted')
    .action(
      action<GlobalOptions & { watch?: boolean }>(async () => (await import('./cluster.ts')).showCluster),
    )
  cluster
    .command('recover')
    .description(
      'go on from this node alone after a majority was lost for good; without --yes only the plan. The node must not run',
    )
    .option('--yes <region>', 'do it; the name of the region, for what others had is given up')
    .action(action<RecoverOptions>(async () => (await import('./cluster-recover.ts')).recoverCluster))
  cluster
    .command('locks')
    .description('which node does what only one of them does: locks with their fencing tokens')
    .action(action(async () => (await import('./cluster.ts')).showLocks))
  cluster
    .command('set')
    .description('change what holds for the whole region')
    .requiredOption('--replicas <count>', 'copies of each chunk')
    .action(
      action<GlobalOptions & { replicas: string }>(async () => (await import('./cluster.ts')).setCluster),
    )

  const node = program.command('node').description('the nodes of the region')
  node
    .command('list')
    .description('all nodes')
    .action(action(async () => (await import('./cluster.ts')).listNodes))
  node
    .command('drain <name>')
    .description('move everything away from a node; it still serves S3')
    .option('--wait', 'until it holds nothing any more, with progress')
    .action(action<ChangeOptions>(async () => (await import('./cluster.ts')).drainNode))
  node
    .command('activate <name>')
    .description('let a drained node hold chunks again')
    .option('--wait', 'until it holds all that is its')
    .action(action<ChangeOptions>(async () => (await import('./cluster.ts')).activateNode))
  node
    .command('set <name>')
    .description('change what placement looks at')
    .option('--weight <number>', 'share of the chunks relative to the others')
    .option('--zone <zone>', 'where it stands or fails with others')
    .option('--rack <rack>', 'within its zone')
    .action(action<ChangeOptions>(async () => (await import('./cluster.ts')).setNode))
  node
    .command('remove <name>')
    .description('take a drained node out of the region')
    .option('--force', 'it is gone for good with what it held: the copies elsewhere must be enough')
    .action(action<ChangeOptions>(async () => (await import('./cluster.ts')).removeNode))
}
