// `npm run setup`: the set-up of `npm start` and `npm test` without running anything. Flags --clients, --bench,
// --fuzz and --ceph add the system packages of that purpose; --force builds again.
import { prepare } from './prepare.mjs'
import { purposes } from './system-packages.mjs'
import { runMain, SetupError, say } from './terminal.mjs'

await runMain(async () => {
  const flags = process.argv.slice(2)
  const also = purposes.filter((purpose) => flags.includes(`--${purpose}`))
  const unknown = flags.find((flag) => flag !== '--force' && !also.includes(flag.slice(2)))
  if (unknown)
    throw new SetupError(
      `unknown flag ${unknown}; there are --force, ${purposes.map((p) => `--${p}`).join(', ')}`,
    )
  await prepare({ tests: true, strict: true, force: flags.includes('--force'), also })
  say('Ready: `npm start` serves, `npm test` tests.')
})
