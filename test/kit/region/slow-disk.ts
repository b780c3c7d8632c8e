import { randomUUID } from 'node:crypto'
import { mkdirSync, rmdirSync, statSync, writeFileSync } from 'node:fs'

const controller = '/sys/fs/cgroup/blkio'

/**
 * Holds what the processes write to the file system of `path` to so many writes a second, until it is disposed of: a disk that
 * limps. Undefined where the machine cannot (needs root and the blkio controller of cgroups, version 1).
 */
export function slowDisk(
  pids: readonly number[],
  path: string,
  writesPerSecond: number,
): Disposable | undefined {
  // Process ids begin anew in every namespace, and all of them share the controllers.
  const group = `${controller}/pando-slow-disk-${randomUUID()}`
  const { dev } = statSync(path)
  // As makedev(3) packs them.
  const major = Number((BigInt(dev) >> 8n) & 0xfffn)
  const minor = Number((BigInt(dev) & 0xffn) | ((BigInt(dev) >> 12n) & 0xfff00n))
  const move = (to: string): void => {
    for (const pid of pids) {
      try {
        writeFileSync(`${to}/cgroup.procs`, `${pid}`)
      } catch {
        // It has ended by itself.
      }
    }
  }
  try {
    mkdirSync(group)
    writeFileSync(`${group}/blkio.throttle.write_iops_device`, `${major}:${minor} ${writesPerSecond}`)
  } catch {
    return undefined
  }
  move(group)
  return {
    [Symbol.dispose]() {
      move(controller)
      rmdirSync(group)
    },
  }
}
