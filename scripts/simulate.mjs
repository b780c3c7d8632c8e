// `npm run simulate [-- name ...] [--seed N] [--steps M] [--runs R]`: repeats a simulation from its seed, or tries new ones.
import { join } from 'node:path'
import { prepare, root } from './prepare.mjs'
import { runForeground, runMain } from './terminal.mjs'

await runMain(async () => {
  await prepare()
  const program = join('dist/test/simulation/main.js')
  return runForeground(process.execPath, ['--enable-source-maps', program, ...process.argv.slice(2)], {
    cwd: root,
  })
})
