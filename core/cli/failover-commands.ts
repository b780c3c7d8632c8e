import type { Command } from 'commander'
import type { GlobalOptions } from './connect.ts'
import type { LossesOptions, RunOptions, SetOptions } from './failover.ts'
import type { Action } from './program.ts'

type MakeAction = <T extends GlobalOptions>(
  load: () => Promise<Action<T>>,
) => (...received: unknown[]) => Promise<void>

/** `pando failover`. */
export function addFailoverCommands(program: Command, action: MakeAction): void {
  const failover = program
    .command('failover')
    .description('which region is the primary of replicated buckets, and how it changes')
  failover
    .command('set <group>')
    .description('let buckets have one primary together, which another region can take over from')
    .requiredOption('--bucket <name...>', 'replicated buckets of this region; all of the group')
    .option('--sync <name...>', 'of these, those that acknowledge a write when another region has it, too')
    .option('--witness <region-id...>', "regions that only vote ('pando up --role witness')")
    .option('--manual', 'no region takes over by itself')
    .option('--flap <duration>', 'at most one automatic change in this time (default 10m)')
    .option('--lease <duration>', 'what a primary is given at a time (default 8s)')
    .action(action<SetOptions>(async () => (await import('./failover.ts')).setGroup))
  failover
    .command('remove <group>')
    .description('take a group away in all its regions; its buckets stay replicated')
    .action(action(async () => (await import('./failover.ts')).removeGroup))
  failover
    .command('status')
    .description('groups, their primaries, who votes and who could take over')
    .action(action(async () => (await import('./failover.ts')).showFailover))
  failover
    .command('plan <group>')
    .description('what a failover would do and lose; changes nothing')
    .option('--to <region-id>', 'region that is to be the primary (default: this one)')
    .action(action<RunOptions>(async () => (await import('./failover.ts')).planFailover))
  failover
    .command('run <group>')
    .description('make another region the primary; nothing is lost while the old one answers')
    .option('--to <region-id>', 'region that is to be the primary (default: this one)')
    .option('--accept-loss <entries>', 'go on without so many entries, or with `all`: without any number')
    .option('--primary-is-down', 'you have made sure of it: only where there are two voters')
    .action(action<RunOptions>(async () => (await import('./failover.ts')).runFailover))
  failover
    .command('losses <group>')
    .description('what failovers have lost of what this region wrote; objects are in BUCKET.lost')
    .option('--limit <count>', 'at most so many', '1000')
    .action(action<LossesOptions>(async () => (await import('./failover.ts')).showLosses))
}
