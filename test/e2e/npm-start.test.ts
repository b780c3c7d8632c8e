import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import test, { type TestContext } from 'node:test'

interface Started {
  readonly npm: ChildProcess
  readonly s3: string
  readonly readyMs: number
  /** What the set-up and the node said on the way. */
  readonly log: string
}

/** `npm start` in a process group of its own, as a shell would run it, until the server says that it is ready. */
async function npmStart(context: TestContext): Promise<Started> {
  const data = mkdtempSync(join(tmpdir(), 'pando-npm-start-'))
  const began = performance.now()
  const npm = spawn('npm', ['start', '--silent', '--', '--json'], {
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: {
      ...process.env,
      PANDO_DATA: join(data, 'data'),
      PANDO_S3_LISTEN: '127.0.0.1:0',
      PANDO_ADMIN_LISTEN: '127.0.0.1:0',
      PANDO_CONSOLE_LISTEN: '127.0.0.1:0',
      PANDO_RPC_LISTEN: '127.0.0.1:0',
      PANDO_TUNNEL_LISTEN: '127.0.0.1:0',
    },
  })
  context.after(() => {
    if (groupAlive(npm)) process.kill(-Number(npm.pid), 'SIGKILL')
    rmSync(data, { recursive: true, force: true })
  })
  let log = ''
  npm.stderr.on('data', (bytes) => (log += bytes))
  const s3 = await new Promise<string>((resolve, reject) => {
    npm.once('exit', (code) => reject(new Error(`npm start ended with ${code}\n${log}`)))
    createInterface({ input: npm.stdout }).on('line', (line) => {
      if (!line.startsWith('{')) return
      const value: { event?: string; s3?: string } = JSON.parse(line)
      if (value.event === 'ready' && value.s3 !== undefined) resolve(value.s3)
    })
  })
  return { npm, s3, readyMs: performance.now() - began, log }
}

function groupAlive(leader: ChildProcess): boolean {
  try {
    process.kill(-Number(leader.pid), 0)
    return true
  } catch {
    return false
  }
}

async function untilGone(leader: ChildProcess, timeoutMs: number): Promise<boolean> {
  const deadline = performance.now() + timeoutMs
  while (groupAlive(leader) && performance.now() < deadline) await new Promise((done) => setTimeout(done, 50))
  return !groupAlive(leader)
}

test('a second `npm start` serves at once; its time is printed', async (context) => {
  // The set-up has been done: these tests were built by it.
  const { npm, s3, readyMs, log } = await npmStart(context)
  context.diagnostic(`npm start to serving: ${readyMs.toFixed(0)} ms (to stay under 3000 on an idle machine)`)
  assert.equal((await fetch(s3)).status, 403, 'a stranger is refused, so somebody is there')
  assert.doesNotMatch(log, /Building|Installing/, 'set-up work is done again')
  // Tests share the machine with others, which says little of the time.
  assert.ok(readyMs < 60_000, `${readyMs} ms`)
  process.kill(-Number(npm.pid), 'SIGKILL')
})

test('SIGTERM to npm, as a supervisor sends it, stops the server and leaves no process', async (context) => {
  const { npm, s3 } = await npmStart(context)
  npm.kill('SIGTERM')
  await once(npm, 'exit')
  assert.ok(await untilGone(npm, 10_000), 'a process was left behind')
  await assert.rejects(fetch(s3))
})

test('Ctrl-C, which reaches the whole process group, stops the server gracefully', async (context) => {
  const { npm, s3 } = await npmStart(context)
  process.kill(-Number(npm.pid), 'SIGINT')
  await once(npm, 'exit')
  assert.ok(await untilGone(npm, 10_000), 'a process was left behind')
  await assert.rejects(fetch(s3))
})
