import type { Command } from 'commander'
import type { GlobalOptions } from './connect.ts'
import type { Action } from './program.ts'
import type { ReplicateOptions } from './replication.ts'

type MakeAction = <T extends GlobalOptions>(
  load: () => Promise<Action<T>>,
) => (...received: unknown[]) => Promise<void>

/** `pando replication`. */
export function addReplicationCommands(program: Command, action: MakeAction): void {
  const replication = program.command('replication').description('buckets that several regions hold')
  replication
    .command('set <bucket>')
    .description('keep copies of a bucket in other regions')
    .requiredOption('--to <region-id...>', 'the other regions, all of them')
    .option('--multi', 'clients may write in every region, not in this one alone')
    .option('--prefix <prefix>', 'only keys that begin with it', '')
    .option('--rpo <duration>', 'raise the alarm when a region lacks something older (default 60s)')
    .option(
      '--on-breach <what>',
      "what happens beyond the objective: 'alert', or 'throttle': writers are slowed down, too",
    )
    .action(action<ReplicateOptions>(async () => (await import('./replication.ts')).replicateBucket))
  replication
    .command('list')
    .description('replicated buckets and their rules')
    .action(action(async () => (await import('./replication.ts')).listReplication))
  replication
    .command('status')
    .description('how far behind each region is, and what waits')
    .action(action(async () => (await import('./replication.ts')).showReplication))
  replication
    .command('compare <bucket>')
    .description('compare all copies with what is here, and repair what differs')
    .action(action(async () => (await import('./replication.ts')).compareReplication))
  replication
    .command('retry <bucket>')
    .description('try again what could not be applied, dead letters too')
    .action(action(async () => (await import('./replication.ts')).retryReplication))
  replication
    .command('stop <bucket>')
    .description('end the replication of a bucket for this region; its objects stay')
    .action(action(async () => (await import('./replication.ts')).stopReplication))
}
