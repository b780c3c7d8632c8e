import { readFileSync } from 'node:fs'

/** From dist/core/cli, package.json is three up. */
export function packageVersion(): string {
  const text = readFileSync(new URL('../../../package.json', import.meta.url), 'utf8')
  const { version } = JSON.parse(text) as { version: string }
  return version
}
