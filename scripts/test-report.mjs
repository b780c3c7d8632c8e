import { writeFileSync } from 'node:fs'
import { spec } from 'node:test/reporters'

/**
 * The runner's own `spec` report, with two additions: skipped and unfinished tests are listed with their reasons in
 * front of the summary, and the runner's counts are written to PANDO_TEST_SUMMARY for scripts.
 */
export default async function* report(source) {
  const renderer = new spec()
  const setAside = []
  const counts = {}
  let listed = false
  for await (const event of source) {
    const { type, data } = event
    const reason = data?.skip ?? data?.todo
    if ((type === 'test:pass' || type === 'test:fail') && reason !== undefined) {
      setAside.push({
        name: data.name,
        file: data.file,
        reason: reason === true || reason === '' ? 'no reason given' : reason,
      })
    }
    const count =
      type === 'test:diagnostic'
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
  if (path) writeFileSync(path, JSON.stringify({ ...counts, setAside }))
}

function* render(renderer, event) {
  renderer.write(event)
  yield* drain(renderer)
}

function* drain(renderer) {
  for (let text = renderer.read(); text !== null; text = renderer.read()) yield String(text)
}
