import { type ChildProcess, execFileSync } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { freePort } from '../../kit/free-ports.ts'
import { type Peer, startLogged, stop, temporaryFolder, untilAnswers } from './processes.ts'
import { anonymousBytes, residentBytes } from './resident.ts'

const programs = [
  'ceph-mon',
  'ceph-mgr',
  'ceph-osd',
  'radosgw',
  'radosgw-admin',
  'ceph-authtool',
  'monmaptool',
  'ceph',
]

/** The programs that are not installed. */
export function missingCephPrograms(): readonly string[] {
  return programs.filter((name) => {
    try {
      execFileSync('which', [name], { stdio: 'ignore' })
      return false
    } catch {
      return true
    }
  })
}

/** The processes of `startCeph`, by name. */
export const cephProcesses = ['ceph-mon', 'ceph-mgr', 'ceph-osd', 'radosgw'] as const

/**
 * One-machine Ceph with the object gateway, from the distribution's packages: one monitor, one manager, as many BlueStore OSDs on
 * files as there are copies of everything (one, no replication, is the most favourable setting for Ceph), logs and usage records off.
 */
export async function startCeph(copies = 1): Promise<Peer> {
  const folder = temporaryFolder('pando-bench-ceph-')
  const children: ChildProcess[] = []
  const close = async () => {
    for (const child of children.reverse()) await stop(child)
    rmSync(folder, { recursive: true, force: true })
  }
  try {
    return await start(folder, children, close, copies)
  } catch (error) {
    await close()
    throw error
  }
}

async function start(
  folder: string,
  children: ChildProcess[],
  close: () => Promise<void>,
  copies: number,
): Promise<Peer> {
  const keyring = join(folder, 'keyring')
  const config = join(folder, 'ceph.conf')
  const cluster = randomUUID()
  const monitor = `[v2:127.0.0.1:${await freePort()},v1:127.0.0.1:${await freePort()}]`
  const port = await freePort()
  const disks = Array.from({ length: copies }, (_, at) => `${at}`)
  const folders = ['mon', 'mgr', 'rgw', 'run', ...disks.map((id) => `osd.${id}`)]
  for (const name of folders) mkdirSync(join(folder, name))
  writeFileSync(
    config,
    `[global]
fsid = ${cluster}
mon host = ${monitor}
keyring = ${keyring}
run dir = ${folder}/run
pid file =
log file = ${folder}/$name.log
mon data = ${folder}/mon
mgr data = ${folder}/mgr
osd data = ${folder}/osd.$id
rgw data = ${folder}/rgw
mon allow pool size one = true
mon max pg per osd = 1000
mon data avail warn = 1
mon data avail crit = 1
osd pool default size = ${copies}
osd pool default min size = ${Math.min(2, copies)}
osd pool default pg num = 16
osd pool default pgp num = 16
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
osd objectstore = bluestore
osd memory target = 4294967296
bluestore block create = true
bluestore block size = 42949672960
rgw frontends = beast endpoint=127.0.0.1:${port} tcp_nodelay=1
rgw enable usage log = false
rgw enable ops log = false
`,
  )
  const quietly = (command: string, args: readonly string[]) =>
    execFileSync(command, args, { stdio: ['ignore', 'ignore', 'pipe'], timeout: 120_000 })
  const capabilities: Readonly<Record<string, readonly string[]>> = {
    'mon.': ['mon', 'allow *'],
    'client.admin': ['mon', 'allow *', 'osd', 'allow *', 'mgr', 'allow *'],
    'mgr.x': ['mon', 'allow profile mgr', 'osd', 'allow *'],
    ...Object.fromEntries(
      disks.map((id) => [
        `osd.${id}`,
        ['mon', 'allow profile osd', 'mgr', 'allow profile osd', 'osd', 'allow *'],
      ]),
    ),
    'client.rgw': ['mon', 'allow rwx', 'osd', 'allow rwx', 'mgr', 'allow rw'],
  }
  for (const [index, [name, pairs]] of Object.entries(capabilities).entries()) {
    const caps = pairs.flatMap((value, at) => (at % 2 === 0 ? ['--cap', value] : [value]))
    quietly('ceph-authtool', [
      ...(index === 0 ? ['--create-keyring'] : []),
      keyring,
      '--gen-key',
      '-n',
      name,
      ...caps,
    ])
  }
  const map = join(folder, 'monmap')
  quietly('monmaptool', ['--create', '--addv', 'a', monitor, '--fsid', cluster, map])
  const common = ['-c', config]
  const daemon = (program: string, args: readonly string[]) => {
    children.push(startLogged(program, [...common, '-f', ...args], join(folder, `${program}.out`)))
  }
  quietly('ceph-mon', [...common, '--mkfs', '-i', 'a', '--monmap', map, '--keyring', keyring])
  daemon('ceph-mon', ['-i', 'a'])
  daemon('ceph-mgr', ['-i', 'x'])
  for (const id of disks) {
    quietly('ceph', [...common, '--connect-timeout', '60', 'osd', 'create'])
    quietly('ceph-osd', [...common, '-i', id, '--mkfs', '--osd-uuid', randomUUID()])
    daemon('ceph-osd', ['-i', id])
  }
  daemon('radosgw', ['-n', 'client.rgw'])
  const url = `http://127.0.0.1:${port}`
  await untilAnswers(url, 120_000)
  const keys = ['--access-key=benchkey', '--secret-key=benchsecret']
  quietly('radosgw-admin', [...common, 'user', 'create', '--uid=bench', '--display-name=bench', ...keys])
  return {
    name: 'ceph',
    url,
    accessKey: 'benchkey',
    secretKey: 'benchsecret',
    residentBytes: () => children.reduce((sum, child) => sum + residentBytes(child.pid), 0),
    anonymousBytes: () => children.reduce((sum, child) => sum + anonymousBytes(child.pid), 0),
    [Symbol.asyncDispose]: close,
  }
}
