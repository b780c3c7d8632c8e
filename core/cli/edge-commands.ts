import type { Command } from 'commander'
import type { GlobalOptions } from './connect.ts'
import type { EdgeOptions } from './edge.ts'
import type { Action } from './program.ts'

type MakeAction = <T extends GlobalOptions>(
  load: () => Promise<Action<T>>,
) => (...received: unknown[]) => Promise<void>

/** `pando edge`. */
export function addEdgeCommands(program: Command, action: MakeAction): void {
  const edge = program.command('edge').description('regions that work while they are cut off')
  edge
    .command('set <bucket>')
    .description('let edges write a bucket of this region, their hub; what is not said stays as it is')
    .requiredOption('--edge <region-id...>', 'the edges, all of them')
    .option(
      '--first <what...>',
      "what goes to the hub first: a prefix, 'tag:NAME=VALUE' or 'class:STORAGE_CLASS', the most urgent first",
    )
    .option(
      '--quota <size>',
      'what an edge keeps for the hub at most; beyond it refuses writes (default 50 GiB)',
    )
    .option('--quota-age <duration>', 'how old that may be (default 30d)')
    .option('--cache <size>', 'objects that an edge keeps although the hub has them (default 10 GiB)')
    .option('--pin <prefix...>', 'keys that an edge keeps in any case')
    .option('--rpo <duration>', 'raise the alarm at an edge when the hub lacks something older (default 60s)')
    .action(action<EdgeOptions>(async () => (await import('./edge.ts')).setEdges))
  edge
    .command('status')
    .description('what edges keep for their hub, here or as the hub sees it')
    .action(action(async () => (await import('./edge.ts')).showEdges))
}
