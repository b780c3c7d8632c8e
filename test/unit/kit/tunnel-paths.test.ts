import assert from 'node:assert/strict'
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { test } from 'node:test'
import { type PathFault, TunnelPaths } from '../../kit/tunnel-paths.ts'

/** A connection from a member to itself: both ends are in this process, and who dials is found by its pid. */
async function dialed(paths: TunnelPaths) {
  const accepted: Socket[] = []
  const server = createServer((socket) => {
    socket.on('error', () => undefined)
    accepted.push(socket)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const port = await paths.add(1, (server.address() as AddressInfo).port, () => process.pid)
  const dialer = connect({ port, host: '127.0.0.1', allowHalfOpen: true })
  dialer.on('error', () => undefined)
  dialer.write('hello')
  while (accepted[0] === undefined) await new Promise((next) => setTimeout(next, 5))
  await once(accepted[0], 'data')
  return { dialer, served: accepted[0], server }
}

for (const fault of ['silent', 'one-way', 'half-closed', 'reset'] satisfies PathFault[]) {
  test(`${fault}: what one end gave up meanwhile ends with the paths`, { timeout: 20_000 }, async () => {
    const paths = new TunnelPaths()
    const { dialer, served, server } = await dialed(paths)
    paths.break(1, 1, fault)
    served.resetAndDestroy()
    await new Promise((next) => setTimeout(next, 50))
    await paths[Symbol.asyncDispose]()
    dialer.destroy()
    server.close()
  })

  test(`${fault}: what one end gave up meanwhile ends when the path is whole again`, {
    timeout: 20_000,
  }, async () => {
    await using paths = new TunnelPaths()
    const { dialer, served, server } = await dialed(paths)
    paths.break(1, 1, fault)
    served.destroy()
    await new Promise((next) => setTimeout(next, 50))
    const closed = dialer.closed || new Promise((resolve) => dialer.once('close', resolve))
    dialer.resume()
    dialer.once('end', () => dialer.end())
    paths.healAll()
    await closed
    assert.ok(dialer.destroyed)
    server.close()
  })
}
