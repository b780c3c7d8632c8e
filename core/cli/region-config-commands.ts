import type { Command } from 'commander'
import type { GlobalOptions } from './connect.ts'
import type { Action } from './program.ts'
import type { ApplyConfigOptions } from './region-config.ts'

type MakeAction = <T extends GlobalOptions>(
  load: () => Promise<Action<T>>,
) => (...received: unknown[]) => Promise<void>

/** `pando config diff|apply|history|rollback`: what the nodes of a region have in common, in versions. */
export function addRegionConfigCommands(config: Command, action: MakeAction): void {
  config
    .command('diff <file>')
    .description("what a file would change in the region's configuration, and when it would count")
    .action(action(async () => (await import('./region-config.ts')).diffRegionConfig))
  config
    .command('apply <file>')
    .description("make a file the next version of the region's configuration; every node takes it")
    .option('--comment <text>', 'why, for the history')
    .option('--author <name>', 'who; otherwise the user of this machine')
    .option('--base <version>', 'refuse unless this is the version in force')
    .action(action<ApplyConfigOptions>(async () => (await import('./region-config.ts')).applyRegionConfig))
  config
    .command('history')
    .description("the versions of the region's configuration, and which one each node runs")
    .action(action(async () => (await import('./region-config.ts')).showHistory))
  config
    .command('rollback <version>')
    .description('make an older version the next one')
    .option('--comment <text>', 'why, for the history')
    .option('--author <name>', 'who; otherwise the user of this machine')
    .action(action<ApplyConfigOptions>(async () => (await import('./region-config.ts')).rollbackRegionConfig))
}
