// `npm run bench [-- name ... [options]]`: the benchmarks of test/bench and native/bench, all of them without a name.
import { join } from 'node:path'
import { listFiles } from './fingerprint.mjs'
import { prepare, root } from './prepare.mjs'
import { bold, runForeground, runMain, SetupError, say } from './terminal.mjs'

await runMain(async () => {
  await prepare({ strict: true, also: ['bench'] })
  const all = listFiles(join(root, 'dist'), ['test/bench'], (path) =>
    /^test\/bench\/[^/]+\/main\.js$/.test(path),
  ).map(({ path }) => path.split('/')[2])
  const firstOption = process.argv.findIndex((argument, at) => at > 1 && argument.startsWith('-'))
  const names = process.argv.slice(2, firstOption < 0 ? undefined : firstOption)
  const options = firstOption < 0 ? [] : process.argv.slice(firstOption)
  const unknown = names.find((name) => !all.includes(name))
  if (unknown) throw new SetupError(`no benchmark is called ${unknown}; there are: ${all.join(', ')}`)
  let failed = 0
  for (const name of names.length > 0 ? names : all) {
    say(bold(`\n${name}`))
    const program = join('dist/test/bench', name, 'main.js')
    failed +=
      (await runForeground(process.execPath, ['--enable-source-maps', program, ...options], {
        cwd: root,
      })) === 0
        ? 0
        : 1
  }
  return failed === 0 ? 0 : 1
})
