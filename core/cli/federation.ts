import { StorageError } from '../contract/errors.ts'
import type { FederationStatus, PeerStatus } from '../contract/federation.ts'
import { formatDuration, formatSize, parseDuration } from '../node/config/quantities.ts'
import { connect, type GlobalOptions } from './connect.ts'
import { exitCodes } from './exit-codes.ts'
import { regionId as regionOf } from './region-ids.ts'
import { describeRegions } from './sharing.ts'
import { facts, formatTime, type Terminal, table } from './terminal.ts'

export interface InviteOptions extends GlobalOptions {
  readonly valid: string
  readonly for?: string
}

export interface RotateOptions extends GlobalOptions {
  readonly after: string
}

export async function inviteRegion(terminal: Terminal, options: InviteOptions): Promise<number> {
  const validMs = durationOf(options.valid, '--valid')
  if (validMs <= 0) throw new StorageError('INVALID_ARGUMENT', '--valid: an invitation needs some time')
  using admin = await connect(terminal, options)
  const reply = await admin.federation.invite({
    validMs,
    ...(options.for === undefined ? {} : { regionId: regionOf(options.for, '--for') }),
  })
  if (options.json === true) terminal.out(`${JSON.stringify(reply)}\n`)
  else {
    terminal.out(`${reply.token}\n`)
    terminal.err(
      `good once, until ${formatTime(reply.expiresMs)}; on the other region:\n  pando federation join TOKEN\n`,
    )
  }
  return exitCodes.ok[0]
}

export async function joinRegion(terminal: Terminal, options: GlobalOptions, token: string): Promise<number> {
  using admin = await connect(terminal, options)
  const peer = await admin.federation.join(token)
  terminal.out(
    options.json === true
      ? `${JSON.stringify(peer)}\n`
      : `joined with region ${peer.regionId} (${peer.name}); see 'pando federation status'\n`,
  )
  return exitCodes.ok[0]
}

export async function listRegions(terminal: Terminal, options: GlobalOptions): Promise<number> {
  using admin = await connect(terminal, options)
  const { peers } = await admin.federation.status()
  terminal.out(options.json === true ? `${JSON.stringify(peers)}\n` : trustTable(peers))
  return exitCodes.ok[0]
}

/** Exit code 7 while a region that is trusted has no tunnel, so that a script can wait for it. */
export async function showFederation(terminal: Terminal, options: GlobalOptions): Promise<number> {
  using admin = await connect(terminal, options)
  const [status, { regions }] = await Promise.all([admin.federation.status(), admin.sharing.status()])
  terminal.out(
    options.json === true
      ? `${JSON.stringify({ ...status, regions })}\n`
      : `${describeFederation(status, Date.now())}${regions.length === 0 ? '' : `\n${describeRegions(regions)}`}`,
  )
  const isWell = status.problem === '' && status.peers.every(({ isConnected }) => isConnected)
  return exitCodes[isWell ? 'ok' : 'findings'][0]
}

export async function revokeRegion(
  terminal: Terminal,
  options: GlobalOptions,
  region: string,
): Promise<number> {
  using admin = await connect(terminal, options)
  const status = await admin.federation.revoke(regionOf(region, 'region-id'))
  terminal.out(
    options.json === true ? `${JSON.stringify(status)}\n` : `region ${region} is trusted no more\n`,
  )
  return exitCodes.ok[0]
}

export async function rotateKey(terminal: Terminal, options: RotateOptions): Promise<number> {
  const afterMs = durationOf(options.after, '--after')
  using admin = await connect(terminal, options)
  const status = await admin.federation.rotate(afterMs)
  const key = status.keys.at(-1)
  terminal.out(
    options.json === true
      ? `${JSON.stringify(status)}\n`
      : `the new key ${key?.publicKey ?? ''} is shown from ${formatTime(key?.fromMs ?? 0)}; who knows it: 'pando federation list'\n`,
  )
  return exitCodes.ok[0]
}

/** For a person. */
export function describeFederation(status: FederationStatus, nowMs: number): string {
  const { regionId, name, listen, isListening, problem, endpoints, keys, peers, invitations } = status
  return (
    facts([
      ['Region', `${regionId} (${name})`],
      ['Tunnels', isListening ? `taken on ${listen}` : problem === '' ? 'no port is open' : problem],
      ['Others dial', endpoints.length === 0 ? 'nothing: this region dials out only' : endpoints.join(', ')],
      ...keys.map(
        (key) =>
          [
            'Key',
            `${key.publicKey}${key.isShown ? ', shown' : key.fromMs > nowMs ? `, shown from ${formatTime(key.fromMs)}` : ', old'}`,
          ] as const,
      ),
      ['Invitations', invitations === 0 ? 'none' : `${invitations} not used yet`],
    ]) +
    (peers.length === 0
      ? "\njoined with no other region: see 'pando federation invite'\n"
      : `\n${tunnelTable(peers, nowMs)}`)
  )
}

function tunnelTable(peers: readonly PeerStatus[], nowMs: number): string {
  return table(
    [
      { title: 'region', align: 'right' },
      { title: 'name' },
      { title: 'transport' },
      { title: 'since' },
      { title: 'rtt', align: 'right' },
      { title: 'sent', align: 'right' },
      { title: 'received', align: 'right' },
      { title: 'problem' },
    ],
    peers.map(({ regionId, name, tunnel, problem }) => [
      String(regionId),
      name,
      tunnel?.backend ?? '-',
      tunnel === undefined ? '-' : formatDuration(Math.max(0, nowMs - tunnel.sinceMs)),
      tunnel === undefined || tunnel.rttMs === 0 ? '-' : `${tunnel.rttMs.toFixed(1)} ms`,
      tunnel === undefined ? '-' : formatSize(tunnel.bytesSent),
      tunnel === undefined ? '-' : formatSize(tunnel.bytesReceived),
      problem === '' ? '-' : problem,
    ]),
  )
}

function trustTable(peers: readonly PeerStatus[]): string {
  return table(
    [
      { title: 'region', align: 'right' },
      { title: 'name' },
      { title: 'joined' },
      { title: 'our newest key' },
      { title: 'endpoints' },
      { title: 'keys' },
    ],
    peers.map(({ regionId, name, joinedMs, knowsNewestKey, endpoints, publicKeys }) => [
      String(regionId),
      name,
      formatTime(joinedMs),
      knowsNewestKey ? 'known' : 'not known yet',
      endpoints.length === 0 ? '-' : endpoints.join(', '),
      publicKeys.join(', '),
    ]),
  )
}

function durationOf(text: string, option: string): number {
  const durationMs = parseDuration(text)
  if (durationMs === undefined) {
    throw new StorageError(
      'INVALID_ARGUMENT',
      `${option}: '${text}' is not a duration; write for example 10m or 1h`,
    )
  }
  return durationMs
}
