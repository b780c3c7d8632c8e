// `npm test [-- suite | folder | file ...]`: the set-up, then all tests, or those of the named suites (folders of test/), folders or files.

import { existsSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { listFiles } from './fingerprint.mjs'
import { prepare, root } from './prepare.mjs'
import { runForeground, runMain, SetupError } from './terminal.mjs'
import { openTestFolder } from './test-folder.mjs'

const scriptUrl = (name) => pathToFileURL(join(root, 'scripts', name)).href

const suites = ['unit', 'conformance', 'simulation', 'native', 'lab', 'e2e']

await runMain(async () => {
  const wanted = process.argv.slice(2)
  const googleTests =
    wanted.length === 0 || wanted.some((name) => name === 'native' || name.includes('google-test'))
  await prepare({ tests: true, strict: true, googleTests })
  const files = (wanted.length > 0 ? wanted : suites).flatMap(testFiles)
  if (files.length === 0) throw new SetupError('there are no tests')
  // The files' processes inherit these.
  const flags = ['--enable-source-maps', '--expose-gc', '--import', scriptUrl('test-process.mjs')]
  const folder = openTestFolder()
  return runForeground(process.execPath, [...flags, join(root, 'scripts/test-queue.mjs'), ...files], {
    cwd: root,
    env: { ...process.env, TMPDIR: folder.path },
  }).finally(() => folder.close())
})

/** The compiled test files of a suite, of a folder below test/, or the one of a source (or compiled) file. */
function testFiles(name) {
  const path = suites.includes(name)
    ? `test/${name}`
    : name.replace(/^(\.\/)?(dist\/)?/, '').replace(/\/+$/, '')
  const compiled = join('dist', path.replace(/\.ts$/, '.js'))
  if (!existsSync(join(root, compiled)))
    throw new SetupError(`no suite, folder or test file is called ${name}`)
  if (!statSync(join(root, compiled)).isDirectory()) return [compiled]
  const files = listFiles(join(root, 'dist'), [path], (file) => file.endsWith('.test.js'))
  if (files.length === 0) throw new SetupError(`there are no tests in ${name}`)
  return files.map((file) => `dist/${file.path}`)
}
