import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { resolve } from 'node:path'
import { after, before, test } from 'node:test'
import { type NodeProcess, startNode } from '../kit/node-process.ts'
import { openS3Client } from '../kit/s3-client.ts'

/** `pando top` as an operator has it before him: in a pseudo-terminal, beside a node that works. */
let node: NodeProcess
let load: Promise<void>
let isLoading = true

before(async () => {
  node = await startNode()
  const { endpoint, accessKey, secretKey } = node
  const client = openS3Client({ endpoint, accessKey, secretKey })
  assert.equal((await client.send({ method: 'PUT', bucket: 'watched' })).status, 200)
  load = (async () => {
    for (let turn = 0; isLoading; turn++) {
      await client.send({ method: 'PUT', bucket: 'watched', key: `k${turn % 50}`, body: 'x'.repeat(9000) })
      await client.send({ method: 'GET', bucket: 'watched', key: `k${turn % 50}` })
      await new Promise((resume) => setTimeout(resume, 5))
    }
    client.close()
  })()
})
after(async () => {
  isLoading = false
  await load
  await node[Symbol.asyncDispose]()
})

const enter = '\x1b[?1049h\x1b[?25l\x1b[?7l'
const leave = '\x1b[?7h\x1b[?25h\x1b[?1049l'

interface Session {
  readonly child: ChildProcess
  text(): string
  /** Waits until what came since `from` matches. */
  until(pattern: RegExp, from?: number): Promise<string>
  end(): Promise<number>
}

/** util-linux's `script` makes the terminal; `prelude` runs in it first. */
function session(prelude: string, ...args: string[]): Session {
  const entry = resolve(import.meta.dirname, '../../core/cli/main.js')
  const words = [process.execPath, entry, 'top', '--data', node.dataDirectory, '--interval', '500ms', ...args]
  const child = spawn('script', ['-qec', `${prelude}; exec ${words.join(' ')}`, '/dev/null'], {
    stdio: ['pipe', 'pipe', 'inherit'],
    env: { ...process.env, TERM: 'xterm', SHELL: '/bin/sh', NO_COLOR: '' },
  })
  // With the last of what it writes.
  const ended = once(child, 'close')
  let text = ''
  child.stdout.on('data', (bytes: Buffer) => {
    text += bytes.toString('utf8')
  })
  return {
    child,
    text: () => text,
    async until(pattern, from = 0) {
      for (let waited = 0; waited < 60_000; waited += 20) {
        if (pattern.test(text.slice(from))) return text
        await new Promise((resume) => setTimeout(resume, 20))
      }
      child.kill('SIGKILL')
      throw new Error(`${pattern} did not come in:\n${JSON.stringify(text.slice(from))}`)
    },
    async end() {
      const [code] = (await ended) as [number | null]
      child.stdin.destroy()
      return code ?? -1
    },
  }
}

/** The rows and columns that are written to. */
function extent(text: string): { readonly rows: number; readonly columns: number } {
  let rows = 0
  let columns = 0
  for (const [, row = '', line = ''] of text.matchAll(/\x1b\[(\d+);1H((?:[^\x1b]|\x1b\[[\d;]*m)*)/g)) {
    rows = Math.max(rows, Number(row))
    columns = Math.max(columns, line.replace(/\x1b\[[\d;]*m/g, '').length)
  }
  return { rows, columns }
}

test('it shows what the node does, follows the size of the terminal, and gives it back on q', async () => {
  const top = session('tty; stty rows 30 cols 100')
  await top.until(/Requests[^\n]*?\x1b\[1m[1-9]\d*(?:\.\d)?\/s/)
  const wide = await top.until(
    /(?:PutObject[\s\S]*?GetObject|GetObject[\s\S]*?PutObject)[\s\S]*?\x1b\[\?2026l/,
  )
  const [, device = '', first = ''] = /^(\S+)\r\n([\s\S]*)/.exec(wide) ?? []
  assert.ok(first.startsWith(enter), JSON.stringify(wide.slice(0, 60)))
  assert.match(wide, /interactive +\d/)
  const { rows, columns } = extent(wide)
  assert.ok(rows <= 30 && rows > 10 && columns <= 99 && columns > 40, `${rows} rows, ${columns} columns`)
  assert.equal(
    wide.split('\x1b[2J').length - 1,
    2,
    'the screen is cleared once when it is taken and once drawn',
  )
  const resizedAt = top.text().length
  const resized = spawn('sh', ['-c', 'stty rows 10 cols 40 <"$0"', device], { stdio: 'ignore' })
  assert.deepEqual(await once(resized, 'exit'), [0, null])
  await top.until(/\x1b\[2J/, resizedAt)
  await top.until(/\x1b\[\?2026l/, resizedAt)
  const small = extent(top.text().slice(top.text().lastIndexOf('\x1b[2J')))
  assert.ok(small.rows <= 10 && small.columns <= 39, JSON.stringify(small))
  top.child.stdin?.write('q')
  assert.equal(await top.end(), 0)
  assert.ok(top.text().endsWith(leave), JSON.stringify(top.text().slice(-80)))
})

test('Ctrl-C and a signal give the terminal back, too', async () => {
  const interrupted = session('stty rows 24 cols 80')
  await interrupted.until(/interactive/)
  interrupted.child.stdin?.write('\x03')
  assert.equal(await interrupted.end(), 0)
  assert.ok(interrupted.text().endsWith(leave))

  const hungUp = session('echo pid $$; stty rows 24 cols 80')
  await hungUp.until(/interactive/)
  const [, pid = ''] = /pid (\d+)/.exec(hungUp.text()) ?? []
  process.kill(Number(pid), 'SIGTERM')
  assert.equal(await hungUp.end(), 0)
  assert.ok(hungUp.text().endsWith(leave))
})

test('a node that stops answering is told and not waited for', async () => {
  await using other = await startNode()
  const entry = node
  node = other
  const top = session('stty rows 24 cols 80')
  node = entry
  await top.until(/interactive/)
  await other.kill()
  await top.until(/no answer for \d/)
  // The socket is the same, and so is the screen: it goes on, with the new process's numbers, maybe before this process knows.
  const from = top.text().length
  await other.start()
  await top.until(/\x1b\[2;1H\x1b\[K/, from)
  top.child.stdin?.write('q')
  assert.equal(await top.end(), 0)
})

test('scripts get one look, as JSON or as text, and lines where there is no terminal', async () => {
  const json = await node.command('top', '--once', '--json', '--interval', '2s')
  assert.equal(json.code, 0, json.stderr)
  const view = JSON.parse(json.stdout)
  assert.ok(view.requests.perSecond > 1 && view.requests.p99Ms > 0, json.stdout)
  assert.ok(view.requests.receivedBytesPerSecond > 1000 && view.requests.sentBytesPerSecond > 1000)
  assert.ok(view.process.cpu > 0 && view.process.residentBytes > 10_000_000)
  assert.ok(view.intervalMs >= 1990 && view.store.capacityBytes > 1_000_000 && view.catalog.objects > 0)
  assert.deepEqual(view.operations.map(({ name }: { readonly name: string }) => name).toSorted(), [
    'GetObject',
    'PutObject',
  ])
  const text = await node.command('top', '--once')
  assert.equal(text.code, 0)
  assert.match(text.stdout, /^ node-1 in us-east-1 {3}ready/)
  assert.ok(!text.stdout.includes('\x1b'))
  for (const wrong of ['1ms', '2h', 'soon'])
    assert.equal((await node.command('top', '--once', '--interval', wrong)).code, 2, wrong)
})
