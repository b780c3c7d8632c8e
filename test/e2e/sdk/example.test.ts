import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { resolve } from 'node:path'
import test from 'node:test'
import { startNode } from '../../kit/node-process.ts'
import { openTcpGate } from '../../kit/tcp-gate.ts'

test('the example application sees no error while each of its endpoints dies in turn', {
  timeout: 120_000,
}, async (t) => {
  await using node = await startNode()
  const gates = [await openTcpGate(() => node.port), await openTcpGate(() => node.port)] as const
  const example = spawn(process.execPath, [resolve('dist/sdk/examples/through-failure.js')], {
    env: {
      PATH: process.env['PATH'],
      PANDO_ENDPOINTS: gates.map(({ port }) => `http://127.0.0.1:${port}`).join(','),
      PANDO_ACCESS_KEY: node.accessKey,
      PANDO_SECRET_KEY: node.secretKey,
      PANDO_SECONDS: '6',
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  // Its output, too, is whole then; it may end while a line is waited for.
  const ended = once(example, 'close')
  let output = ''
  for (const stream of [example.stdout, example.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text
    })
  }
  /** Waits for the example's next line: it works, whatever the machine is doing. */
  const line = async (): Promise<void> => {
    await Promise.race([once(example.stdout, 'data'), ended])
  }
  try {
    await line()
    gates[0].cut()
    await line()
    await line()
    gates[0].open()
    gates[1].cut()
    await line()
    gates[1].open()
    const [code] = await ended
    t.diagnostic(output.trim().split('\n').at(-1) ?? '')
    assert.equal(code, 0, output)
    assert.match(output, /^done: [1-9]\d* writes, [1-9]\d* reads, 0 errors/m)
  } finally {
    example.kill('SIGKILL')
    for (const gate of gates) await gate.close()
  }
})
