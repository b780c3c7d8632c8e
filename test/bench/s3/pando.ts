import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { freePort } from '../../kit/free-ports.ts'
import { type Peer, startLogged, stop, temporaryFolder, untilAnswers } from './processes.ts'
import { anonymousBytes, cpuSeconds, residentBytes } from './resident.ts'

export interface PandoPeer extends Peer {
  /** Processor time used since it started, kernel included. */
  cpuSeconds(): number
}

/**
 * One node with the default configuration, as `npm start` runs it, on free ports and an empty data directory. `config`: the
 * text of a configuration file.
 */
export async function startPando(extraEnvironment: NodeJS.ProcessEnv = {}, config = ''): Promise<PandoPeer> {
  const folder = temporaryFolder('pando-bench-node-')
  const log = join(folder, 'node.log')
  const port = await freePort()
  const nodeFlags = (process.env['PANDO_BENCH_NODE_FLAGS'] ?? '').split(' ').filter((flag) => flag !== '')
  const configPath = join(folder, 'pando.yaml')
  writeFileSync(configPath, config)
  const command = [...nodeFlags, 'dist/core/cli/main.js', 'up', '--config', configPath]
  const child = startLogged(process.execPath, command, log, {
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
    cpuSeconds: () => cpuSeconds(child.pid),
    [Symbol.asyncDispose]: close,
  }
}
