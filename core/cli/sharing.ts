import { setTimeout as sleep } from 'node:timers/promises'
import { StorageError } from '../contract/errors.ts'
import type { PublicationStatus, PublishRequest, SharedRegion, SharingStatus } from '../contract/sharing.ts'
import type { AdminClient } from '../control/admin-client.ts'
import { formatDuration, formatSize } from '../node/config/quantities.ts'
import { connect, type GlobalOptions } from './connect.ts'
import { exitCodes } from './exit-codes.ts'
import { regionId, regionIds } from './region-ids.ts'
import { type Terminal, table } from './terminal.ts'

export interface AcceptOptions extends GlobalOptions {
  readonly keys?: boolean
  readonly policies?: boolean
}

/** To which other regions something goes. */
export interface RegionsOption {
  readonly federation?: boolean
  readonly regions?: string
}

/** How long a command waits for other regions to answer before it tells how far they are. */
const patienceMs = 15_000

export async function acceptRegion(terminal: Terminal, options: AcceptOptions, region = ''): Promise<number> {
  const id = regionId(region, 'region-id')
  const accepts = [
    ...(options.keys === true ? (['keys'] as const) : []),
    ...(options.policies === true ? (['policies'] as const) : []),
  ]
  using admin = await connect(terminal, options)
  const status = await admin.sharing.accept(id, accepts)
  terminal.out(
    options.json === true
      ? `${JSON.stringify(status)}\n`
      : `of region ${id} ${accepts.length === 0 ? 'nothing is' : `${accepts.join(' and ')} are`} taken\n`,
  )
  return exitCodes.ok[0]
}

export async function shareKey(
  terminal: Terminal,
  options: GlobalOptions,
  accessKeyId = '',
  regions = '',
): Promise<number> {
  const named = regionIds(regions, 'regions')
  using admin = await connect(terminal, options)
  await admin.sharing.shareKey(accessKeyId, named)
  terminal.out(
    options.json === true
      ? `${JSON.stringify({ accessKeyId, regions: named })}\n`
      : named.length === 0
        ? `access key ${accessKeyId} is good in this region only\n`
        : `access key ${accessKeyId} is offered to ${named.join(', ')}; who has it: 'pando federation status'\n`,
  )
  return exitCodes.ok[0]
}

export async function showPublications(terminal: Terminal, options: GlobalOptions): Promise<number> {
  using admin = await connect(terminal, options)
  return tellPublications(terminal, options, (await admin.sharing.status()).publications)
}

export async function withdrawPolicy(terminal: Terminal, options: GlobalOptions, name = ''): Promise<number> {
  using admin = await connect(terminal, options)
  const status = await admin.sharing.withdraw(name)
  terminal.out(
    options.json === true
      ? `${JSON.stringify(status)}\n`
      : `${name} is offered to other regions no more; where it was taken it stays\n`,
  )
  return exitCodes.ok[0]
}

/** Undefined: to this region only. INVALID_ARGUMENT. */
export function publishedTo({ federation, regions }: RegionsOption): readonly number[] | undefined {
  if (regions === undefined) return federation === true ? [] : undefined
  if (federation === true)
    throw new StorageError('INVALID_ARGUMENT', '--federation and --regions: one of them')
  const named = regionIds(regions, '--regions')
  if (named.length === 0) throw new StorageError('INVALID_ARGUMENT', '--regions names no region')
  return named
}

/** Offers a policy, waits a while for the regions that can be reached, and tells what became of it in each. */
export async function publish(
  admin: AdminClient,
  terminal: Terminal,
  options: GlobalOptions,
  request: PublishRequest,
): Promise<number> {
  const of = (status: SharingStatus) => status.publications.filter(({ name }) => name === request.name)
  let told = of(await admin.sharing.publish(request))
  for (const untilMs = performance.now() + patienceMs; performance.now() < untilMs; await sleep(250)) {
    if (told.every(({ state }) => state !== 'pending')) break
    told = of(await admin.sharing.status())
  }
  return tellPublications(terminal, options, told)
}

/** Exit code 7 while some region has not accepted one. */
function tellPublications(
  terminal: Terminal,
  { json }: GlobalOptions,
  publications: readonly PublicationStatus[],
): number {
  if (json === true) terminal.out(`${JSON.stringify({ publications })}\n`)
  else if (publications.length === 0) terminal.out('no policy is offered to other regions\n')
  else {
    terminal.out(
      table(
        [
          { title: 'policy' },
          { title: 'digest' },
          { title: 'region', align: 'right' },
          { title: 'state' },
          { title: 'serves there' },
          { title: 'why' },
        ],
        publications.map(({ name, digest, regionId: region, state, serves, reason }) => [
          name,
          digest.slice(0, 12),
          String(region),
          state,
          serves.map((one) => `${one.digest.slice(0, 12)} ${one.percent} %`).join(', ') || '-',
          reason === '' ? '-' : reason,
        ]),
      ),
    )
  }
  return exitCodes[publications.every(({ state }) => state === 'accepted') ? 'ok' : 'findings'][0]
}

/** How joined regions are, for a person. */
export function describeRegions(regions: readonly SharedRegion[]): string {
  return table(
    [
      { title: 'region', align: 'right' },
      { title: 'name' },
      { title: 'state' },
      { title: 'role' },
      { title: 'version' },
      { title: 'heard', align: 'right' },
      { title: 'rpo', align: 'right' },
      { title: 'backlog', align: 'right' },
      { title: 'groups' },
      { title: 'keys' },
      { title: 'takes of us' },
    ],
    regions.map((region) => {
      const { health, heardMs } = region
      return [
        String(region.regionId),
        region.name,
        health === undefined ? 'not heard of' : stateOf(health),
        health?.role ?? '-',
        health?.version ?? '-',
        heardMs < 0 ? '-' : `${formatDuration(Math.round(heardMs / 1000) * 1000)} ago`,
        health === undefined ? '-' : formatDuration(health.lagMs),
        health === undefined ? '-' : formatSize(health.backlogBytes),
        health?.groups.map(groupText).join(', ') || '-',
        keysText(region),
        region.isAccepting.join(', ') || '-',
      ]
    }),
  )
}

const stateOf = ({ state, problems }: NonNullable<SharedRegion['health']>): string =>
  problems.length === 0 ? state : `${state}: ${problems.join('; ')}`

const groupText = ({
  name,
  epoch,
  primary,
  isWritable,
  lastRtoMs,
  lastRpoMs,
}: NonNullable<SharedRegion['health']>['groups'][number]) =>
  `${name} epoch ${epoch} of ${primary}${isWritable ? ', takes writes' : ''}${lastChangeText({ lastRtoMs, lastRpoMs })}`

/** How long the last change of the primary took, and how much it lost; empty where nothing is known. */
export const lastChangeText = ({ lastRtoMs, lastRpoMs }: { lastRtoMs: number; lastRpoMs: number }): string =>
  `${lastRtoMs < 0 ? '' : `, last RTO ${formatDuration(lastRtoMs)}`}${lastRpoMs < 0 ? '' : `, last RPO ${formatDuration(lastRpoMs)}`}`

function keysText({ keysGiven, keysLagMs, keysTaken, keysProblem, accepts }: SharedRegion): string {
  const lag =
    keysLagMs < 0
      ? ', not heard of'
      : keysLagMs > 0
        ? `, a change behind since ${formatDuration(keysLagMs)}`
        : ''
  const texts = [
    ...(keysGiven > 0 || keysLagMs > 0 ? [`gives ${keysGiven}${lag}`] : []),
    ...(accepts.includes('keys') ? [`takes ${keysTaken}`] : []),
    ...(keysProblem === '' ? [] : [keysProblem]),
  ]
  return texts.join('; ') || '-'
}
