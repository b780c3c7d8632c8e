import { readFileSync } from 'node:fs'

/** Resident set of a process in bytes; 0 when it is gone. */
export function residentBytes(pid: number | undefined): number {
  return statusBytes(pid, 'VmRSS')
}

/** The part of it that is the process's own: no page of a mapped file. */
export function anonymousBytes(pid: number | undefined): number {
  return statusBytes(pid, 'RssAnon')
}

/** Processor time of a process and all its threads, in user and kernel mode; in steps of 10 ms. */
export function cpuSeconds(pid: number | undefined): number {
  // The name in parentheses may hold anything; fields 14 and 15 (proc(5)) are counted behind it.
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').at(-1)?.split(' ') ?? []
  return (Number(fields[11]) + Number(fields[12])) / 100
}

function statusBytes(pid: number | undefined, field: string): number {
  try {
    const line = new RegExp(`^${field}:\\s+(\\d+) kB`, 'm')
    const kilobytes = line.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]
    return Number(kilobytes ?? 0) * 1024
  } catch {
    return 0
  }
}
