// `node scripts/ci-costs.mjs RESULTS`: what a run of .ci/run cost, of the files that it leaves in its results folder. All of it is for people;
// what is missing (a stage that never began, a system without /proc) is left out.

import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

/** Of so many files each list tells. */
const toldFiles = 30
const toldCases = 8
const toldLast = 8

console.log(describeCosts(readResults(process.argv[2])))

function readResults(folder) {
  const textOf = (name) => {
    try {
      return readFileSync(join(folder, name), 'utf8')
    } catch {
      return undefined
    }
  }
  const stages = readdirSync(folder)
    .filter((name) => name.endsWith('.began'))
    .map((name) => name.slice(0, -'.began'.length))
    .map((name) => ({
      name,
      began: readMachine(textOf(`${name}.began`)),
      ended: readMachine(textOf(`${name}.ended`)),
      cpuSeconds: readTimes(textOf(`${name}.times`)),
      builtCpuSeconds: readTimes(textOf(`${name}.built`)),
      cases: readCases(textOf(`${name}.xml`) ?? ''),
    }))
    .filter(({ began, ended }) => began !== undefined && ended !== undefined)
    .toSorted((one, other) => one.began.seconds - other.began.seconds)
  return { stages, tests: JSON.parse(textOf('summary.json') ?? '{}') }
}

/** The clock of .ci/run and the first line of /proc/stat, in processor seconds since the machine was started. */
function readMachine(text) {
  const [, seconds, counters] = /^(\d+) cpu +(.*)$/m.exec(text ?? '') ?? []
  if (counters === undefined) return undefined
  const ticksPerSecond = 100
  const [user, nice, system, idle, iowait, irq, softirq, steal] = counters
    .split(' ')
    .map((count) => Number(count) / ticksPerSecond)
  return {
    seconds: Number(seconds),
    busy: user + nice + system + irq + softirq,
    idle: idle + iowait,
    stolen: steal,
  }
}

/** What bash's `times` says: of the shell and of its children, `1m2.345s 0m0.100s` each. */
function readTimes(text) {
  if (text === undefined) return undefined
  return [...text.matchAll(/(\d+)m([\d.]+)s/g)].reduce(
    (sum, [, minutes, seconds]) => sum + Number(minutes) * 60 + Number(seconds),
    0,
  )
}

/** Of CTest's JUnit report. */
function readCases(xml) {
  return [...xml.matchAll(/<testcase\b[^>]*>/g)].map(([tag]) => {
    const of = (name) => new RegExp(`\\b${name}="([^"]*)"`).exec(tag)?.[1] ?? ''
    return { name: of('name').replace(/\s+# GetParam\(\) = .*/, ''), seconds: Number(of('time')) }
  })
}

function describeCosts({ stages, tests }) {
  const text = ['stage       from      to   processor time']
  for (const { name, began, ended, cpuSeconds, builtCpuSeconds } of stages) {
    const parts =
      name === 'tests' && tests.cpuSeconds !== undefined && cpuSeconds !== undefined
        ? ` (set-up ${whole(cpuSeconds - tests.cpuSeconds)}, files ${whole(tests.cpuSeconds)} in ${whole(tests.seconds)} of time)`
        : builtCpuSeconds !== undefined && cpuSeconds !== undefined
          ? ` (build ${whole(builtCpuSeconds)}, then ${whole(cpuSeconds - builtCpuSeconds)})`
          : ''
    text.push(
      `${name.padEnd(10)} ${pad(began.seconds, 5)} ${pad(ended.seconds, 7)}   ${whole(cpuSeconds)}${parts}`,
    )
  }
  text.push(...describeMachine(stages))
  for (const { name, cases } of stages) {
    if (cases.length === 0) continue
    text.push(`longest cases of ${name}:`)
    for (const each of most(cases, 'seconds', toldCases))
      text.push(`${pad(each.seconds, 8, 1)} s  ${each.name}`)
  }
  const files = tests.times ?? []
  if (files.length === 0) return text.join('\n')
  text.push('files by folder, processor seconds:', ...describeFolders(files))
  const line = ({ file, seconds, cpuSeconds, endedSeconds }) =>
    `${pad(cpuSeconds, 8, 1)} ${pad(seconds, 7, 1)} ${pad(endedSeconds, 7)}  ${file}`
  for (const [title, key, count] of [
    ['that took most processor time', 'cpuSeconds', toldFiles],
    ['that took longest', 'seconds', toldFiles],
    ['that were over last', 'endedSeconds', toldLast],
  ]) {
    text.push(`files ${title} (processor, time, end):`, ...most(files, key, count).map(line))
  }
  return text.join('\n')
}

/** How busy all processors were from one begin or end of a stage to the next one, and in the run as a whole. */
function describeMachine(stages) {
  const points = stages
    .flatMap(({ name, began, ended }) => [
      { ...began, begins: name },
      { ...ended, ends: name },
    ])
    .toSorted((one, other) => one.seconds - other.seconds || one.busy - other.busy)
  const running = new Set()
  const text = []
  for (const [index, point] of points.entries()) {
    if (point.begins !== undefined) running.add(point.begins)
    running.delete(point.ends)
    const next = points[index + 1]
    // Shorter ones say nothing: the clock has whole seconds.
    if (next === undefined || next.seconds - point.seconds < 2) continue
    text.push(`  ${describeSpan(point, next)}: ${[...running].join(', ')}`)
  }
  const first = points[0]
  const last = points.at(-1)
  if (first === undefined || last.seconds === first.seconds) return []
  return [
    'processors of the machine, other programs included:',
    ...text,
    `  ${describeSpan(first, last)}: all`,
  ]
}

function describeSpan(from, to) {
  const [busy, idle, stolen] = ['busy', 'idle', 'stolen'].map((what) => to[what] - from[what])
  const lost = stolen >= 1 ? `, stolen ${whole(stolen)}` : ''
  return `${from.seconds} to ${to.seconds} s: busy ${whole(busy)}, idle ${whole(idle)}${lost}`
}

/** By suite, and by folder where a suite has some. */
function describeFolders(files) {
  const folders = new Map()
  for (const { file, cpuSeconds = 0, seconds } of files) {
    const [, suite = '', folder = ''] = /(?:^|\/)test\/(\w+)\/(?:([\w-]+)\/)?/.exec(file) ?? []
    for (const name of folder === '' ? [suite] : [suite, `${suite}/${folder}`]) {
      const sum = folders.get(name) ?? { name, files: 0, cpuSeconds: 0, seconds: 0 }
      sum.files += 1
      sum.cpuSeconds += cpuSeconds
      sum.seconds += seconds
      folders.set(name, sum)
    }
  }
  return [...folders.values()]
    .toSorted((one, other) => (one.name < other.name ? -1 : 1))
    .map(
      ({ name, files, cpuSeconds, seconds }) =>
        `${pad(cpuSeconds, 8)} (${whole(seconds)} of time, ${files} files)  ${name}`,
    )
}

function most(rows, key, count) {
  return rows
    .filter((row) => row[key] !== undefined)
    .toSorted((one, other) => other[key] - one[key])
    .slice(0, count)
}

function whole(number) {
  return number === undefined ? '-' : number.toFixed(0)
}

function pad(number, width, digits = 0) {
  return (number === undefined ? '-' : number.toFixed(digits)).padStart(width)
}
