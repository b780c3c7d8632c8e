// `npm start`: everything a fresh clone needs, then a one-node region. Arguments go to `pando up`.
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { prepare, root } from './prepare.mjs'
import { runMain } from './terminal.mjs'

await runMain(() => prepare({ productOnly: true }))

// The server runs in this very process: no child to orphan, and signals need no forwarding.
const program = join(root, 'dist/core/cli/main.js')
process.argv.splice(1, process.argv.length - 1, program, 'up', ...process.argv.slice(2))
await import(pathToFileURL(program).href)
