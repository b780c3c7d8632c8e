import assert from 'node:assert/strict'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import test from 'node:test'

const readme = readFileSync('README.md', 'utf8')

/** The cell in front of the first bar of each row: folder names, with or without a link. */
function firstCells(markdown: string): readonly string[] {
  return [...markdown.matchAll(/^\| (?:\[|`)?([a-z0-9]+)\/(?:\]\([^)]*\)|`)? \|/gm)].map(
    ([, name = '']) => name,
  )
}

const foldersIn = (path: string) =>
  readdirSync(path, { withFileTypes: true })
    .filter((entry) => entry.isDirectory() && !entry.name.startsWith('.'))
    .map((entry) => entry.name)
    .filter((name) => !['node_modules', 'dist', 'build', 'data', 'coverage'].includes(name))
    .filter((name) => readdirSync(join(path, name)).length > 0)

test('the README names every top folder, and none that is not there', () => {
  assert.deepEqual(firstCells(readme).toSorted(), foldersIn('.').toSorted())
})

test('core/README.md names every folder of core', () => {
  const named = firstCells(readFileSync('core/README.md', 'utf8'))
  assert.deepEqual(
    foldersIn('core').filter((name) => !named.includes(name)),
    [],
  )
})

test('every top folder says what it is', () => {
  for (const name of ['core', 'federation', 'native', 'plugins', 'sdk', 'test']) {
    assert.ok(existsSync(`${name}/README.md`), `${name}/README.md`)
  }
})

test('links between our pages lead somewhere', () => {
  const pages = ['README.md', ...foldersIn('.').map((name) => `${name}/README.md`)].filter((path) =>
    existsSync(path),
  )
  const dead = pages.flatMap((page) =>
    [...readFileSync(page, 'utf8').matchAll(/\]\((?!https?:|#)([^)#]+)/g)]
      .map(([, target = '']) => target)
      .filter((target) => !existsSync(join(dirname(page), target)))
      .map((target) => `${page}: ${target}`),
  )
  assert.deepEqual(dead, [])
})

test('every npm script that a page names exists', () => {
  const { scripts }: { scripts: Readonly<Record<string, string>> } = JSON.parse(
    readFileSync('package.json', 'utf8'),
  )
  const named = [...readme.matchAll(/npm (?:run )?([a-z][a-z:]*)/g)].map(([, name = '']) => name)
  const known = new Set([...Object.keys(scripts), 'install', 'link', 'pack', 'run'])
  assert.deepEqual(
    named.filter((name) => !known.has(name)),
    [],
  )
})
