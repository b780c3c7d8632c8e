import { readFileSync } from 'node:fs'

/** Processor seconds of all processes that this one has waited for, and of those that they have; undefined where the system does not tell. */
export function cpuSecondsOfChildren() {
  try {
    // After the name, which may hold anything but ends with the last parenthesis; cutime and cstime of proc(5).
    const fields = readFileSync('/proc/self/stat', 'utf8')
      .replace(/^.*\) /s, '')
      .split(' ')
    const ticksPerSecond = 100
    return (Number(fields[13]) + Number(fields[14])) / ticksPerSecond
  } catch {
    return undefined
  }
}

/** Of this process and its children. */
export function cpuSeconds() {
  const { user, system } = process.cpuUsage()
  return (user + system) / 1e6 + (cpuSecondsOfChildren() ?? 0)
}
