import { createHash } from 'node:crypto'
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

/**
 * Every file below `roots` (files or directories, relative to `base`; a missing one is an empty one) that
 * `keep(relativePath)` wants, sorted. Dot-directories, node_modules, dist and build are never entered.
 */
export function listFiles(base, roots, keep = () => true) {
  const found = []
  const visit = (path) => {
    let stat
    try {
      stat = statSync(join(base, path))
    } catch {
      return
    }
    if (stat.isDirectory()) {
      for (const name of readdirSync(join(base, path))) {
        if (name.startsWith('.') || name === 'node_modules' || name === 'dist' || name === 'build') continue
        visit(`${path}/${name}`)
      }
    } else if (keep(path)) {
      found.push({ path, byteLength: stat.size, modifiedMs: stat.mtimeMs })
    }
  }
  for (const root of roots) visit(root)
  return found.sort((a, b) => (a.path < b.path ? -1 : 1))
}

/**
 * Changes whenever a file is added, removed, resized or touched. Reads names, sizes and times only: a start must not
 * pay for reading the whole tree. A touch without a change costs one incremental build, never a wrong one.
 */
export function fingerprintTree(base, roots, keep) {
  const hash = createHash('sha256')
  for (const file of listFiles(base, roots, keep)) {
    hash.update(`${file.path}\0${file.byteLength}\0${file.modifiedMs}\n`)
  }
  return hash.digest('hex')
}

/** Content hash of one file together with what else the result depends on. */
export function fingerprintFile(path, ...also) {
  return createHash('sha256').update(readFileSync(path)).update(also.join('\0')).digest('hex')
}

/** Whether `value` was the last one noted there. */
export function isCurrent(stampPath, value) {
  try {
    return readFileSync(stampPath, 'utf8') === value
  } catch {
    return false
  }
}

/** To be called only after the work that the stamp stands for has succeeded. */
export function noteCurrent(stampPath, value) {
  writeFileSync(stampPath, value)
}
