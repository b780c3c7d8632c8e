import { readFileSync } from 'node:fs'

/** Of the kernel's clocks in /proc, since ever. */
const ticksPerSecond = 100

/** Milliseconds of processor time that the processes and those they have waited for have used. */
export function cpuMs(pids: readonly number[]): number {
  let ticks = 0
  for (const pid of pids) {
    const fields = statOf(pid)
    // utime, stime, cutime, cstime: fields 14 to 17 of proc(5).
    for (const at of [11, 12, 13, 14]) ticks += Number(fields[at] ?? 0)
  }
  return (ticks * 1000) / ticksPerSecond
}

/** Milliseconds in which a processor of the machine was not idle, whoever used it, the hypervisor's other guests too. */
export function machineCpuMs(): number {
  const [, ...columns] = readFileSync('/proc/stat', 'utf8').split('\n', 1)[0]?.split(/\s+/) ?? []
  const [user = 0, nice = 0, system = 0, , , irq = 0, softirq = 0, steal = 0] = columns.map(Number)
  return ((user + nice + system + irq + softirq + steal) * 1000) / ticksPerSecond
}

/** Milliseconds that the main thread of a process has waited for a processor (0 where the kernel does not say). */
export function starvedMs(pid: number): number {
  try {
    return Number(readFileSync(`/proc/${pid}/schedstat`, 'utf8').split(' ')[1] ?? 0) / 1e6
  } catch {
    return 0
  }
}

/** From the third field on: the second one may have blanks. Empty: the process is gone. */
function statOf(pid: number): readonly string[] {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'utf8')
    return text.slice(text.lastIndexOf(')') + 2).split(' ')
  } catch {
    return []
  }
}
