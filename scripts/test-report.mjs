import { writeFileSync } from 'node:fs'
import { spec } from 'node:test/reporters'

/** Of so many files the times are told: those that a run waits for, and those that keep the processors busy. */
const toldFiles = 12

/**
 * The runner's own `spec` report, with additions: skipped and unfinished tests are listed with their reasons in
 * front of the summary, and so are the files that took longest; counts and times are written to PANDO_TEST_SUMMARY for scripts.
 */
export default async function* report(source) {
  const renderer = new spec()
  const setAside = []
  const counts = {}
  let times
  let listed = false
  for await (const event of source) {
    const { type, data } = event
    if (type === 'pando:times') {
      times = data
      yield describeTimes(data)
      continue
    }
    const reason = data?.skip ?? data?.todo
    if ((type === 'test:pass' || type === 'test:fail') && reason !== undefined) {
      setAside.push({
        name: data.name,
        file: data.file,
        reason: reason === true || reason === '' ? 'no reason given' : reason,
      })
    }
    const count =
      type === 'test:diagnostic' && data.file === undefined
        ? /^(tests|pass|fail|cancelled|skipped|todo) (\d+)$/.exec(data.message)
        : null
    if (count !== null && data.nesting === 0) {
      counts[count[1]] = Number(count[2])
      if (!listed && setAside.length > 0) {
        yield `\nnot run (${setAside.length}):\n${setAside.map((t) => `  ${t.name}: ${t.reason}`).join('\n')}\n\n`
      }
      listed = true
    }
    yield* render(renderer, event)
  }
  renderer.end()
  yield* drain(renderer)
  const path = process.env.PANDO_TEST_SUMMARY
  if (path) writeFileSync(path, JSON.stringify({ ...counts, setAside, ...times }))
}

function* render(renderer, event) {
  renderer.write(event)
  yield* drain(renderer)
}

function* drain(renderer) {
  for (let text = renderer.read(); text !== null; text = renderer.read()) yield String(text)
}

/** Of one file the reader knows already. */
function describeTimes({ times, seconds, cores, cpuSeconds, left }) {
  const text = []
  if (left.length > 0) text.push(`interrupted; not begun: ${left.length} files`)
  if (times.length > 1) {
    const most = (what) =>
      times
        .filter((each) => each[what] !== undefined)
        .toSorted((one, other) => other[what] - one[what])
        .slice(0, toldFiles)
        .map((each) => `  ${each[what].toFixed(1)} s  ${each.file}`)
    text.push('the longest files:', ...most('seconds'))
    text.push('the files that took most processor time:', ...most('cpuSeconds'))
    if (cpuSeconds !== undefined) {
      const busy = `${cpuSeconds.toFixed(0)} s of ${(seconds * cores).toFixed(0)} s`
      text.push(`processor time of all ${times.length} files: ${busy} that ${cores} cores had`)
    }
  }
  return text.length === 0 ? '' : `\n${text.join('\n')}\n\n`
}
