// `npm run check`: format and lint, import boundaries, types. `--fix` lets Biome write what it can mend.
import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { prepare, root } from './prepare.mjs'
import { bold, runMain, say } from './terminal.mjs'

const bin = (name) => join(root, 'node_modules/.bin', name)
const fix = process.argv.includes('--fix')

const checks = [
  {
    title: 'format and lint',
    command: bin('biome'),
    args: ['check', '--error-on-warnings', ...(fix ? ['--write'] : [])],
  },
  {
    title: 'import boundaries',
    command: bin('depcruise'),
    args: [
      '--config',
      '.dependency-cruiser.cjs',
      '--output-type',
      'err-long',
      'core',
      'federation',
      'native',
      'plugins',
      'sdk',
      'test',
    ],
  },
  { title: 'types', command: bin('tsc'), args: ['-p', '.', '--noEmit'] },
  { title: 'types of the console', command: bin('tsc'), args: ['-p', 'core/console/web'] },
]

await runMain(async () => {
  await prepare({ packagesOnly: true })
  let failed = 0
  for (const { title, code, output } of await Promise.all(checks.map(runCheck))) {
    say(`${code === 0 ? '✔' : '✘'} ${bold(title)}`)
    if (code !== 0 || /\bwarn/i.test(output)) say(output)
    if (code !== 0) failed += 1
  }
  return failed === 0 ? 0 : 1
})

function runCheck({ title, command, args }) {
  return new Promise((resolve) => {
    let output = ''
    const child = spawn(command, args, { cwd: root, stdio: ['ignore', 'pipe', 'pipe'] })
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (bytes) => (output += bytes))
    child.on('error', (error) => resolve({ title, code: 1, output: String(error) }))
    child.on('close', (code) => resolve({ title, code: code ?? 1, output }))
  })
}
