import assert from 'node:assert/strict'
import test from 'node:test'
import { natsServerConfig } from '../../../core/cluster/nats/server-config.ts'
import { relayServerLog } from '../../../core/cluster/nats/server-log.ts'
import { isAtLeast } from '../../../core/cluster/nats/server-program.ts'
import type { Logger } from '../../../core/contract/logger.ts'
import { FakeClock } from '../../kit/fake-clock.ts'

function recordingLogger(): { readonly log: Logger; readonly said: string[] } {
  const said: string[] = []
  const level = (name: string) => (fields: object, message: string) =>
    void said.push(`${name} ${message}${'lines' in fields ? ` ${fields.lines}` : ''}`)
  const log: Logger = {
    trace: level('trace'),
    debug: level('debug'),
    info: level('info'),
    warn: level('warn'),
    error: level('error'),
    child: () => log,
  }
  return { log, said }
}

test("a server's words come with their weight, in whole lines, however they are cut", () => {
  const { log, said } = recordingLogger()
  const lines: string[] = []
  const relay = relayServerLog(log, new FakeClock(), (line) => void lines.push(line))
  const text = [
    '[12] 2026/11/22 03:15:18.123456 [INF] Server is ready',
    '[12] 2026/11/22 03:15:18.123456 [WRN] slow consumer',
    '[12] 2026/11/22 03:15:18.123456 [WRN] Plaintext passwords detected, use nkeys or bcrypt',
    '[12] 2026/11/22 03:15:18.123456 [ERR] no route',
    '[12] 2026/11/22 03:15:18.123456 [FTL] gone',
    'nats-server: something else',
    '',
  ].join('\n')
  for (const character of text) relay(character)
  assert.deepEqual(said, [
    'debug Server is ready',
    'warn slow consumer',
    // Meant so: nobody is to be alarmed by it at every start.
    'debug Plaintext passwords detected, use nkeys or bcrypt',
    'error no route',
    'error gone',
    'trace nats-server: something else',
  ])
  assert.equal(lines[0], '[12] 2026/11/22 03:15:18.123456 [INF] Server is ready')
})

test('a server that never ends a line or never ends talking costs bounded memory and log', async () => {
  const { log, said } = recordingLogger()
  const clock = new FakeClock()
  let longest = 0
  const relay = relayServerLog(log, clock, (line) => {
    longest = Math.max(longest, line.length)
  })
  for (let count = 0; count < 100; count++) relay('x'.repeat(100_000))
  relay('\n')
  assert.equal(longest, 2000)
  for (let count = 0; count < 1000; count++) relay(`[1] d t [WRN] line ${count}\n`)
  assert.equal(said.length, 50)
  await clock.advance(1000)
  relay('[1] d t [WRN] later\n')
  assert.deepEqual(said.slice(50), ['warn nats-server wrote more than is passed on 951', 'warn later'])
})

const settings = {
  name: 'node-a',
  listen: { host: '10.0.0.1', port: 4222 },
  tls: { caPath: '/k/ca.pem', certificatePath: '/k/node.pem', keyPath: '/k/node.key' },
  secrets: { user: 'u', password: 'p"\n}', routeUser: 'r', routePassword: 'q/@:' },
  maxStoreBytes: 1000,
}

test('a configuration holds no value that could break out of its place', () => {
  const text = natsServerConfig(
    { ...settings, cluster: { name: 'c', listen: { host: '::1', port: 6222 }, routes: ['10.0.0.2:6222'] } },
    { store: '/data' },
    [2, 9, 10],
  )
  assert.match(text, /^ {2}password: "p\\"\\n\}"$/m)
  assert.match(text, /"nats-route:\/\/r:q%2F%40%3A@10\.0\.0\.2:6222"/)
  assert.match(text, /^ {2}listen: "\[::1\]:6222"$/m)
  assert.equal(text.match(/^ *verify: true$/gm)?.length, 2)
  assert.doesNotMatch(text, /http/)
})

test('a server that can write through is told to', () => {
  const textFor = (version: readonly [number, number, number]) =>
    natsServerConfig(settings, { store: '/data' }, version)
  assert.doesNotMatch(textFor([2, 9, 10]), /sync_interval/)
  for (const version of [
    [2, 10, 0],
    [2, 11, 3],
    [3, 0, 0],
  ] as const) {
    assert.match(textFor(version), /sync_interval: always/)
  }
  assert.ok(
    isAtLeast([2, 9, 10], [2, 9, 0]) && !isAtLeast([2, 8, 99], [2, 9, 0]) && isAtLeast([3, 0, 0], [2, 9, 9]),
  )
})
