import type { Command } from 'commander'
import type { GlobalOptions } from './connect.ts'
import type { InviteOptions, RotateOptions } from './federation.ts'
import type { Action } from './program.ts'
import type { AcceptOptions } from './sharing.ts'

type MakeAction = <T extends GlobalOptions>(
  load: () => Promise<Action<T>>,
) => (...received: unknown[]) => Promise<void>

/** `pando federation`. */
export function addFederationCommands(program: Command, action: MakeAction): void {
  const federation = program.command('federation').description('the regions that this one is joined with')
  federation
    .command('invite')
    .description('print an invitation, which lets one region in, once')
    .option('--valid <duration>', 'how long it may be used', '10m')
    .option('--for <region-id>', 'the only region that may use it')
    .action(action<InviteOptions>(async () => (await import('./federation.ts')).inviteRegion))
  federation
    .command('join <token>')
    .description('follow an invitation of another region: both trust each other from then on')
    .action(action(async () => (await import('./federation.ts')).joinRegion))
  federation
    .command('list')
    .description('the regions that are trusted')
    .action(action(async () => (await import('./federation.ts')).listRegions))
  federation
    .command('status')
    .description('the tunnels to other regions, how each of them is, and the keys of this one')
    .action(action(async () => (await import('./federation.ts')).showFederation))
  federation
    .command('revoke <region-id>')
    .description('trust a region no more; its tunnels are cut at once')
    .action(action(async () => (await import('./federation.ts')).revokeRegion))
  federation
    .command('accept <region-id>')
    .description('what is taken of a region from now on; what is not named is given up, its keys at once')
    .option('--keys', 'access keys that it gives to this region: their accounts are here as ACCOUNT~REGION')
    .option('--policies', 'policies that it offers, checked as if they had been pushed here')
    .action(action<AcceptOptions>(async () => (await import('./sharing.ts')).acceptRegion))
  federation
    .command('policies')
    .description('policies that this region offers to others, and what became of them there')
    .action(action(async () => (await import('./sharing.ts')).showPublications))
  federation
    .command('withdraw <policy>')
    .description('offer a policy to other regions no more')
    .action(action(async () => (await import('./sharing.ts')).withdrawPolicy))
  federation
    .command('rotate')
    .description('make a new key; the others learn it over their tunnels before it is shown')
    .option('--after <duration>', 'for how long the old key is shown still', '1h')
    .action(action<RotateOptions>(async () => (await import('./federation.ts')).rotateKey))
}
