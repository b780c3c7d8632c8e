// Runs compiled test files side by side, each in a process of its own, and reports them as one run. Called by test.mjs, which
// sets the folder for temporary files and the flags that the files' processes inherit.

import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { availableParallelism, tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { run } from 'node:test'
import { cpuSecondsOfChildren } from './processor-time.mjs'
import report from './test-report.mjs'
import { byLength, expectedOf } from './test-times.mjs'

// A test that needs longer says so itself; this one catches a hang.
const timeoutMs = 1_200_000
/** However little they compute: each has nodes, and those have memory and a disk. */
const filesPerCore = 2

// Each file's process leaves its processor time here as it ends (test-process.mjs).
const folder = mkdtempSync(join(tmpdir(), 'pando-queue-'))
process.once('exit', () => rmSync(folder, { recursive: true, force: true }))
process.env.PANDO_TEST_QUEUE = JSON.stringify({ pid: process.pid, folder })

const stopping = new AbortController()
for (const signal of ['SIGINT', 'SIGTERM']) {
  process.once(signal, () => {
    stopping.abort()
    process.exitCode = signal === 'SIGINT' ? 130 : 143
  })
}

for await (const text of report(runFiles(process.argv.slice(2)))) process.stdout.write(text)

/**
 * The events of all files, those of one file together and in the order in which files end; then the counts of all. The longest
 * begin first, and one more begins while those that run keep fewer cores busy than there are: many tests wait for a timeout, a
 * lease or another process most of the time.
 */
async function* runFiles(files) {
  const cores = availableParallelism()
  const waiting = byLength(files)
  const running = new Map()
  const counts = new Map()
  const times = []
  const began = performance.now()
  const secondsSince = (beganMs) => (performance.now() - beganMs) / 1000
  const begin = (file) => {
    const beganMs = performance.now()
    const events = eventsOf(file)
    // A lone file tells as it goes.
    const told = files.length === 1 ? Promise.resolve(events) : all(events)
    running.set(
      file,
      told.then((events) => ({ file, beganMs, events })),
    )
  }
  const canBegin = () => {
    const busy = [...running.keys()].reduce((sum, file) => sum + expectedOf(file).cores, 0)
    return running.size === 0 || (busy < cores && running.size < cores * filesPerCore)
  }
  while (waiting.length + running.size > 0) {
    while (waiting.length > 0 && !stopping.signal.aborted && canBegin()) begin(waiting.shift())
    if (running.size === 0) break
    const { file, beganMs, events } = await Promise.race(running.values())
    yield* withoutCounts(events, counts)
    running.delete(file)
    times.push({ file, seconds: secondsSince(beganMs), endedSeconds: secondsSince(began) })
  }
  const seconds = secondsSince(began)
  yield {
    type: 'pando:times',
    data: { times: withCpuSeconds(times), seconds, cores, cpuSeconds: cpuSecondsOfChildren(), left: waiting },
  }
  for (const [name, count] of counts) yield diagnostic(`${name} ${count}`)
  yield diagnostic(`duration_ms ${seconds * 1000}`)
  // Reporters of newer versions list what failed when this comes, of older ones at the end.
  yield { type: 'test:summary', data: { success: !process.exitCode } }
}

async function* eventsOf(file) {
  const stream = run({ files: [file], concurrency: 1, timeout: timeoutMs, signal: stopping.signal })
  for await (const event of stream) {
    const { type, data } = event
    if (type === 'test:fail' && (data.todo === undefined || data.todo === false)) process.exitCode ||= 1
    yield event
  }
}

async function all(events) {
  const list = []
  for await (const event of events) list.push(event)
  return list
}

/** Each file ends with counts of its own, which are added up. */
async function* withoutCounts(events, counts) {
  const own = new Map()
  for await (const event of events) {
    const { type, data } = event
    const [, name, count] =
      type === 'test:diagnostic' && data.nesting === 0 && data.file === undefined
        ? (/^(tests|suites|pass|fail|cancelled|skipped|todo|duration_ms) ([\d.]+)$/.exec(data.message) ?? [])
        : []
    if (name === undefined && type !== 'test:summary') yield event
    if (name !== undefined && name !== 'duration_ms') own.set(name, Number(count))
  }
  for (const [name, count] of own) counts.set(name, (counts.get(name) ?? 0) + count)
}

/** A process that was killed has left nothing: its file is without. */
function withCpuSeconds(times) {
  const costs = new Map()
  for (const name of readdirSync(folder)) {
    const { file, cpuSeconds } = JSON.parse(readFileSync(join(folder, name), 'utf8'))
    costs.set(file, cpuSeconds)
  }
  return times.map((each) => ({ ...each, cpuSeconds: costs.get(resolve(each.file)) }))
}

function diagnostic(message) {
  return { type: 'test:diagnostic', data: { nesting: 0, message } }
}
