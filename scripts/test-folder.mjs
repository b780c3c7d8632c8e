// One folder for all temporary files of a test run: what a test that was killed or failed leaves behind goes with it.

import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const nameShape = /^pando-tests-(\d+)-/

/** Makes the folder and removes those of runs that could not remove theirs: their process is gone. */
export function openTestFolder(parent = tmpdir()) {
  for (const name of readdirSync(parent)) {
    const pid = Number(nameShape.exec(name)?.[1] ?? 0)
    if (pid > 0 && !isAlive(pid)) rmSync(join(parent, name), { recursive: true, force: true })
  }
  const path = mkdtempSync(join(parent, `pando-tests-${process.pid}-`))
  return {
    path,
    close() {
      rmSync(path, { recursive: true, force: true, maxRetries: 3 })
    },
  }
}

function isAlive(pid) {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return error.code === 'EPERM'
  }
}
