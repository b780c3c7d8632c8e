#!/usr/bin/env node
import { packageVersion } from './package-version.ts'
import { run } from './program.ts'
import type { Terminal } from './terminal.ts'
import { processScreen } from './top/process-screen.ts'

// A closed pipe (`pando bucket list | head -1`) ends a command quietly. A node goes on: it has said what it had to say.
process.stdout.on('error', () => {
  if (!process.argv.includes('up')) process.exit(0)
})
process.stderr.on('error', () => undefined)

const terminal: Terminal = {
  out: (text) => void process.stdout.write(text),
  err: (text) => void process.stderr.write(text),
  isInteractive: process.stderr.isTTY === true,
  columns: process.stderr.columns ?? 80,
  environment: process.env,
  workingDirectory: process.cwd(),
  screen: processScreen(),
}

process.exitCode = await run(process.argv.slice(2), terminal, packageVersion())
