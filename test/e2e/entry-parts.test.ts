import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'

const program = fileURLToPath(new URL('./entry-parts-follower.js', import.meta.url))

/** Runs the follower until it has everything or is killed. */
async function follow(directory: string, place: string) {
  const child = spawn(process.execPath, [program, directory, place], { stdio: ['ignore', 'pipe', 'inherit'] })
  const [output, [code, signal]] = await Promise.all([text(child.stdout), once(child, 'exit')])
  return { output, code, signal }
}

test('a process that is killed between two parts of an entry has all of it when it is back', {
  timeout: 240_000,
}, async () => {
  const directory = mkdtempSync(join(tmpdir(), 'pando-entry-parts-'))
  try {
    // Before the first of the three parts, behind it, behind the last, between two.
    for (const place of [0, 1, 3, 2]) {
      const { signal, output } = await follow(directory, `${place}`)
      assert.equal(signal, 'SIGKILL', `${place}: it ended by itself: ${output}`)
    }
    const { code, output } = await follow(directory, 'nowhere')
    assert.equal(code, 0)
    assert.deepEqual(JSON.parse(output), {
      // The last to be killed has left two parts; of all that came none is kept.
      ...{ found: 2, parts: 0, versions: 1201, retries: 0, synchronizing: false, isEven: true },
    })
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
})
