import { execFileSync } from 'node:child_process'

/**
 * Hosts on one machine: network namespaces on one bridge, inside the namespaces that `runInOwnNamespaces` gives. The caller sits
 * on the bridge too and reaches them all.
 */
export interface Host {
  readonly name: string
  /** The first one; see `move`. */
  readonly address: string
  /** In front of a command line: runs it on this host. */
  readonly prefix: readonly string[]
  /** Pulls the cable, or puts it back. */
  setCable(isPlugged: boolean): void
  /** What this host sends to the other does not arrive; what the other sends does. */
  stopSendingTo(other: Host): void
  sendAgainTo(other: Host): void
  /** The host has another address from now on, and this one no more. `number`: as of `addHost`. Answers it. */
  move(number: number): string
  /** Process ids of everything that runs here. */
  pids(): readonly number[]
}

const bridge = 'hub'
/** Where hosts reach the caller. */
export const callerAddress = '10.77.0.254'
const nobody = '02:00:00:00:00:01'

const run = (program: string, ...args: readonly string[]): string =>
  execFileSync(program, [...args], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })

/** Call it once, before the first host. */
export function openNetwork(): void {
  run('mkdir', '-p', '/run/netns')
  run('mount', '-t', 'tmpfs', 'namespaces', '/run/netns')
  run('ip', 'link', 'set', 'lo', 'up')
  run('ip', 'link', 'add', bridge, 'type', 'bridge')
  run('ip', 'address', 'add', `${callerAddress}/24`, 'dev', bridge)
  run('ip', 'link', 'set', bridge, 'up')
}

const addressOf = (number: number): string => `10.77.0.${number}`

/** `number`: 1 to 250. */
export function addHost(name: string, number: number): Host {
  const address = addressOf(number)
  let current = address
  const cable = `cable-${number}`
  const prefix = ['ip', 'netns', 'exec', name]
  run('ip', 'netns', 'add', name)
  run('ip', 'link', 'add', cable, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', name)
  run('ip', 'link', 'set', cable, 'master', bridge, 'up')
  run('ip', '-n', name, 'link', 'set', 'lo', 'up')
  run('ip', '-n', name, 'address', 'add', `${address}/24`, 'dev', 'eth0')
  run('ip', '-n', name, 'link', 'set', 'eth0', 'up')
  return {
    name,
    address,
    prefix,
    setCable: (isPlugged) => void run('ip', 'link', 'set', cable, isPlugged ? 'up' : 'down'),
    // To an address of the wire that nobody has: packets vanish, as on a broken line, and nobody is told.
    stopSendingTo: (other) =>
      void run('ip', '-n', name, 'neighbour', 'replace', other.address, 'lladdr', nobody, 'dev', 'eth0'),
    sendAgainTo: (other) => void run('ip', '-n', name, 'neighbour', 'del', other.address, 'dev', 'eth0'),
    move(next) {
      run('ip', '-n', name, 'address', 'del', `${current}/24`, 'dev', 'eth0')
      current = addressOf(next)
      run('ip', '-n', name, 'address', 'add', `${current}/24`, 'dev', 'eth0')
      return current
    },
    pids: () =>
      run('ip', 'netns', 'pids', name)
        .split('\n')
        .filter((line) => line !== '')
        .map(Number),
  }
}
