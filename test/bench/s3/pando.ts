import { readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { freePort, type Peer, startLogged, stop, temporaryFolder, untilAnswers } from './processes.ts'
import { anonymousBytes, residentBytes } from './resident.ts'

/** One node with the default configuration, as `npm start` runs it, on free ports and an empty data directory. */
export async function startPando(extraEnvironment: NodeJS.ProcessEnv = {}): Promise<Peer> {
  const folder = temporaryFolder('pando-bench-node-')
  const log = join(folder, 'node.log')
  const port = await freePort()
  const nodeFlags = (process.env['PANDO_BENCH_NODE_FLAGS'] ?? '').split(' ').filter((flag) => flag !== '')
  const child = startLogged(process.execPath, [...nodeFlags, 'dist/core/cli/main.js', 'up'], log, {
    ...process.env,
    PANDO_DATA: join(folder, 'data'),
    PANDO_S3_LISTEN: `127.0.0.1:${port}`,
    PANDO_ADMIN_LISTEN: '127.0.0.1:0',
    PANDO_CONSOLE_LISTEN: '127.0.0.1:0',
    PANDO_ROOT_ACCESS_KEY: 'benchkey',
    PANDO_ROOT_SECRET_KEY: 'benchsecret-benchsecret',
    ...extraEnvironment,
  })
  const close = async () => {
    await stop(child, 30_000)
    rmSync(folder, { recursive: true, force: true })
  }
  const url = `http://127.0.0.1:${port}`
  try {
    await untilAnswers(url, 60_000)
  } catch (error) {
    const text = readFileSync(log, 'utf8').slice(-4000)
    await close()
    throw new Error(`the node did not start:\n${text}`, { cause: error })
  }
  return {
    name: 'pando',
    url,
    accessKey: 'benchkey',
    secretKey: 'benchsecret-benchsecret',
    residentBytes: () => residentBytes(child.pid),
    anonymousBytes: () => anonymousBytes(child.pid),
    [Symbol.asyncDispose]: close,
  }
}
