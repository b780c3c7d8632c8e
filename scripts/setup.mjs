// `npm run setup`: the set-up of `npm start` and `npm test` without running anything. Flags --clients, --browser, --s3tests, --bench,
// --fuzz, --wasm, --lab, --cluster and --ceph add the system packages of that purpose; --system stops after the system
// packages; --force builds again.
import { prepare, prepareSystem } from './prepare.mjs'
import { purposes } from './system-packages.mjs'
import { runMain, SetupError, say } from './terminal.mjs'

await runMain(async () => {
  const flags = process.argv.slice(2)
  const also = purposes.filter((purpose) => flags.includes(`--${purpose}`))
  const unknown = flags.find(
    (flag) => !['--force', '--system'].includes(flag) && !also.includes(flag.slice(2)),
  )
  if (unknown)
    throw new SetupError(
      `unknown flag ${unknown}; there are --force, --system, ${purposes.map((p) => `--${p}`).join(', ')}`,
    )
  if (flags.includes('--system')) {
    await prepareSystem(['build', 'test', ...also])
    return 0
  }
  await prepare({ tests: true, strict: true, force: flags.includes('--force'), also })
  say('Ready: `npm start` serves, `npm test` tests.')
})
