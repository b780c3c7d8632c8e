import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { run } from '../../../core/cli/program.ts'

/** What follows `pando` in each line of the fenced blocks of a page, without comments, in words. */
function commandLines(page: string): readonly (readonly string[])[] {
  const blocks = [...readFileSync(page, 'utf8').matchAll(/^```\w*\n([\s\S]*?)^```$/gm)]
  return blocks
    .flatMap(([, block = '']) => block.split('\n'))
    .map((line) => /^(?:npx )?pando (.+)$/.exec(line.replace(/\s+#.*$/, ''))?.[1])
    .filter((line) => line !== undefined)
    .map((line) => line.replace(/\$\(.*?\)/g, 'OUTPUT').split(/\s+/))
}

async function help(...words: readonly string[]): Promise<string> {
  let text = ''
  const say = (more: string): void => {
    text += more
  }
  const terminal = {
    out: say,
    err: say,
    isInteractive: false,
    columns: 80,
    environment: {},
    workingDirectory: '/',
  }
  assert.equal(await run([...words, '--help'], terminal, '0'), 0, text)
  return text
}

test('every command line of the documentation is one: its commands and its options are there', async () => {
  const folders = ['core', 'deploy', 'federation', 'native', 'plugins', 'sdk', 'test']
  const pages = folders.flatMap((folder) =>
    readdirSync(folder, { recursive: true, encoding: 'utf8' })
      .filter((name) => name.endsWith('.md'))
      .map((name) => join(folder, name)),
  )
  const global = await help()
  let count = 0
  for (const page of ['README.md', ...pages]) {
    for (const words of commandLines(page)) {
      const line = `${page}: pando ${words.join(' ')}`
      const text = await help(...words)
      const [, path = '', rest = ''] = /^Usage: pando ?([a-z -]*?) ?((?:[[<].*)?)$/m.exec(text) ?? []
      assert.notEqual(path, '', `${line}: no command`)
      assert.doesNotMatch(rest, /\[command\]/, `${line}: 'pando ${path}' is no whole command`)
      for (const option of words.filter((word) => word.startsWith('-'))) {
        const name = new RegExp(`(^|[ ,])${option.replace(/=.*$/, '')}\\b`, 'm')
        assert.ok(name.test(text) || name.test(global), `${line}: no option ${option}`)
      }
      count++
    }
  }
  assert.ok(count >= 30, `only ${count} command lines were found`)
})
