// `npm test [-- suite | file ...]`: the set-up, then all tests, or those of the named suites (folders of test/) or files.

import { existsSync } from 'node:fs'
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

/** The compiled test files of a suite, or the one of a source (or compiled) file. */
function testFiles(name) {
  if (suites.includes(name)) {
    return listFiles(join(root, 'dist'), [`test/${name}`], (path) => path.endsWith('.test.js')).map(
      ({ path }) => `dist/${path}`,
    )
  }
  const compiled = join('dist', name.replace(/^(\.\/)?(dist\/)?/, '').replace(/\.ts$/, '.js'))
  if (!existsSync(join(root, compiled))) throw new SetupError(`no suite and no test file is called ${name}`)
  return [compiled]
}
