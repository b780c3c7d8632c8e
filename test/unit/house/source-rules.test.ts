import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import test from 'node:test'

/**
 * House rules that no linter knows. Each is a pattern that must not occur in some files; what may stay is named here with
 * its reason, so that an exception is a decision that somebody reads.
 */

const sources = listSources(['core', 'federation', 'native', 'plugins', 'sdk', 'test', 'scripts'])

function listSources(folders: readonly string[]): readonly string[] {
  return folders.flatMap((folder) =>
    readdirSync(folder, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile() && /\.(tsx?|mjs|cc|h|lua)$/.test(entry.name))
      .map((entry) => `${entry.parentPath}/${entry.name}`)
      .filter((path) => !/(^|\/)(build|node_modules|dist)\//.test(path)),
  )
}

/** `file:line: text` of every line of code (comments taken out) that the pattern finds. */
function occurrences(files: readonly string[], pattern: RegExp): readonly string[] {
  return files.flatMap((file) =>
    withoutComments(readFileSync(file, 'utf8'))
      .split('\n')
      .flatMap((line, index) => (pattern.test(line) ? [`${file}:${index + 1}: ${line.trim()}`] : [])),
  )
}

/** Blanks comments out and keeps the line numbers. Strings that hold `//` lose their end: good enough for rules. */
function withoutComments(text: string): string {
  return text
    .replace(/\/\*[\s\S]*?\*\//g, (comment) => comment.replace(/[^\n]/g, ' '))
    .replace(/(^|[^:'"`])\/\/.*$/gm, '$1')
}

const isProduct = (path: string) => /^(core|federation|native|plugins|sdk)\/.*\.tsx?$/.test(path)
/** Where the real clock, the real randomness and the real process are: everything else gets them handed in. */
const mayTouchTheWorld = (path: string) =>
  /^core\/(node|cli)\//.test(path) ||
  /^sdk\/(client|admin-grpc)\/environment\.ts$/.test(path) ||
  isExample(path)
/** Programs of their own, as a user of the SDK writes them. */
const isExample = (path: string) => path.startsWith('sdk/examples/')

test('there are sources to look at', () => {
  assert.ok(sources.filter(isProduct).length > 10)
})

interface Rule {
  /** What holds, and why. */
  readonly law: string
  readonly applies: (path: string) => boolean
  readonly forbidden: RegExp
  /** Lines that break the law, and lines that only look like it. */
  readonly breaks: readonly string[]
  readonly allows: readonly string[]
  /** Files that may, each with its reason. */
  readonly exceptions?: Readonly<Record<string, string>>
}

const rules: readonly Rule[] = [
  {
    law: 'the time is read through Clock and nowhere else, so that one seed repeats a run',
    applies: (path) => isProduct(path) && !mayTouchTheWorld(path),
    forbidden: /\bDate\.now\(|\bnew Date\(\)|\bperformance\.now\(|\bprocess\.hrtime/,
    breaks: ['const at = Date.now()', 'new Date().toISOString()'],
    allows: ['new Date(record.modifiedMs)', 'clock.now()'],
    exceptions: {
      'core/catalog/writer-directory.ts':
        'how often a thread of its own asks for free space; nothing kept depends on it',
      'native/peer-session.ts':
        'what a wait for memory leaves of a deadline that the data plane measures by the real clock',
    },
  },
  {
    law: 'delays go through Clock, so that a simulation decides when they end',
    applies: (path) => isProduct(path) && !mayTouchTheWorld(path),
    forbidden: /(?<![.\w])set(Timeout|Interval)\(|node:timers/,
    breaks: ['setTimeout(close, 10)', "import { setTimeout } from 'node:timers/promises'"],
    allows: ['socket.setTimeout(0)', 'await clock.delay(10)'],
    exceptions: {
      'core/gateway/s3/respond.ts': 'deadlines of real sockets, which no simulation replaces',
      'core/gateway/s3/server.ts': 'deadlines of real sockets, which no simulation replaces',
    },
  },
  {
    law: 'randomness comes in from outside',
    applies: (path) => isProduct(path) && !mayTouchTheWorld(path),
    forbidden: /\bMath\.random\(|\brandom(Bytes|UUID|Int|FillSync|Fill)\(|\bgetRandomValues\(/,
    breaks: ['Math.random()', 'randomBytes(6)', 'crypto.randomUUID()'],
    allows: ['environment.random(6)'],
  },
  {
    law: 'only core/node and core/cli read the process environment',
    applies: (path) => isProduct(path) && !mayTouchTheWorld(path),
    forbidden: /\bprocess\.(env\b|argv\b|exit\()/,
    breaks: ["process.env['HOME']", 'process.exit(1)'],
    allows: ['process.memoryUsage()'],
  },
  {
    law: 'only the command line prints; the rest logs',
    applies: (path) => isProduct(path) && !path.startsWith('core/cli/') && !isExample(path),
    forbidden: /\bconsole\.\w+\(|\bprocess\.std(out|err)\.write\(/,
    breaks: ["console.log('here')", "process.stdout.write('x')"],
    allows: ["logger.info({}, 'here')"],
  },
  {
    law: 'no test runs alone, and none is put to sleep without a reason',
    applies: (path) => /\.test\.ts$/.test(path) && !path.startsWith('test/unit/house/'),
    forbidden: /\.only\(|\bonly: true|\.skip\(\)|\bskip: true\b|\btest\.(skip|todo)\(|\btodo: true\b/,
    breaks: ["test.only('x', f)", "test('x', { skip: true }, f)", 't.skip()'],
    allows: ["test('x', { skip: missing && 'rclone is not installed' }, f)", "t.skip('no rclone')"],
  },
]

for (const { law, applies, forbidden, breaks, allows, exceptions = {} } of rules) {
  test(law, () => {
    for (const line of breaks) assert.match(line, forbidden, 'the rule is blind')
    for (const line of allows) assert.doesNotMatch(line, forbidden, 'the rule sees ghosts')
    const files = sources.filter((path) => applies(path) && exceptions[path] === undefined)
    assert.deepEqual(occurrences(files, forbidden), [])
    const unused = Object.keys(exceptions).filter((path) => occurrences([path], forbidden).length === 0)
    assert.deepEqual(unused, [], 'exceptions that nothing uses')
  })
}

test('no name that says nothing', () => {
  const vague = /(^|[/_-])(utils?|helpers?|commons?|managers?|misc)([/._-]|$)/
  assert.deepEqual(
    sources.filter((path) => vague.test(path)),
    [],
  )
})

/** Files over the limit that are one idea nevertheless. */
const longFiles: Readonly<Record<string, string>> = {
  'plugins/host/generated/policy-structs.ts': 'written by the generator of the ABI; nobody edits it',
  'plugins/pdk/assembly/structs.ts': 'written by the generator of the ABI; nobody edits it',
  'plugins/host/generated/hook-calls.ts': 'written by the generator of the ABI; nobody edits it',
}
const lineLimit = 500

test(`no file is longer than ${lineLimit} lines without a reason`, () => {
  const long = sources.filter((path) => readFileSync(path, 'utf8').split('\n').length - 1 > lineLimit)
  assert.deepEqual(
    long.filter((path) => longFiles[path] === undefined),
    [],
  )
  const notNeeded = Object.keys(longFiles).filter((path) => !long.includes(path))
  assert.deepEqual(notNeeded, [], 'exceptions that nothing uses')
})

test('no unfinished work is marked in the sources', () => {
  assert.deepEqual(
    sources
      .filter((path) => !path.includes('/house/'))
      .flatMap((path) => {
        const found = /\b(TODO|FIXME|XXX)\b/.exec(readFileSync(path, 'utf8'))
        return found ? [`${path}: ${found[0]}`] : []
      }),
    [],
  )
})
