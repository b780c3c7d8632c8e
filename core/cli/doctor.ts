import { resolve } from 'node:path'
import { loadQuic } from '../../federation/tunnel/quic/quic-module.ts'
import type { RpcConfig } from '../node/config/rpc-schema.ts'
import type { NodeConfig } from '../node/config/schema.ts'
import { takenListeners } from '../node/listeners.ts'
import { detectMachine, realMachine } from '../protocol/machine/detect.ts'
import { describeCapabilities } from '../protocol/machine/report.ts'
import { checkCluster } from './cluster-checks.ts'
import { connect } from './connect.ts'
import { exitCodes } from './exit-codes.ts'
import { type Check, checkMachine } from './machine-checks.ts'
import { type GlobalOptions, readConfig } from './read-config.ts'
import { checkSpdk } from './spdk-checks.ts'
import { printable, type Terminal } from './terminal.ts'

/** Exit code 7 when a check fails; warnings do not change it. */
export async function doctor(terminal: Terminal, options: GlobalOptions): Promise<number> {
  const config = await readConfig(terminal, options)
  const checks = await checkMachine(resolve(terminal.workingDirectory, config.data))
  const machine = await detectMachine(realMachine())
  checks.push(
    ...describeCapabilities(machine),
    ...checkEncryption(config.rpc),
    ...(await checkSpdk(config.store, machine)),
    ...(await checkCluster(config, Date.now())),
    checkQuic(config.tunnel.transports),
    ...(await checkNode(terminal, options, config)),
  )
  const failed = checks.some(({ state }) => state === 'fail')
  if (options.json === true) terminal.out(`${JSON.stringify({ ok: !failed, checks, machine })}\n`)
  else {
    const longest = Math.max(...checks.map(({ name }) => name.length))
    for (const { name, state, found, advice } of checks) {
      terminal.out(`${state.padEnd(4)}  ${name.padEnd(longest)}  ${printable(found)}\n`)
      if (advice !== undefined) terminal.out(`${' '.repeat(longest + 8)}-> ${advice}\n`)
    }
    const warnings = checks.filter(({ state }) => state === 'warn').length
    terminal.out(
      failed
        ? '\nsomething that Pando needs is missing: see the lines marked fail\n'
        : `\nready to run${warnings === 0 ? '' : `; ${warnings} ${warnings === 1 ? 'thing' : 'things'} could be better`}\n`,
    )
  }
  return failed ? exitCodes.findings[0] : exitCodes.ok[0]
}

/** Why a transport that the machine has is not used. */
function checkEncryption({ encrypt, rdma }: RpcConfig): readonly Check[] {
  const name = 'encryption'
  if (encrypt === 'off') {
    const advice = 'rpc.encrypt: auto, unless the network between the nodes is private'
    return [{ name, state: 'warn', found: 'off: chunks go between nodes in the clear', advice }]
  }
  if (encrypt === 'auto' || rdma === '') return []
  const advice = 'rpc.encrypt: auto, where the network of rpc.rdma is private'
  return [
    { name, state: 'warn', found: 'rdma cannot be encrypted, and rpc.encrypt is required: not used', advice },
  ]
}

/** Regions can do without it: TLS over TCP is always there. */
function checkQuic(transports: readonly string[]): Check {
  const name = 'QUIC for tunnels'
  if (loadQuic() !== undefined)
    return { name, state: 'ok', found: `installed; tunnel.transports: ${transports.join(', ')}` }
  const found = 'its package is not installed here: tunnels go over TLS'
  return transports.includes('quic')
    ? {
        name,
        state: 'warn',
        found,
        advice: 'npm install, on Linux x64 with glibc; or take quic out of tunnel.transports',
      }
    : { name, state: 'ok', found }
}

/** Of a node that does not run: whether it could. */
function checkPorts(taken: Awaited<ReturnType<typeof takenListeners>>): Check {
  const name = 'ports'
  if (taken.length === 0)
    return { name, state: 'ok', found: 'those of S3, admin service and console are free' }
  return {
    name,
    state: 'warn',
    found: `taken: ${taken.map(({ what, address }) => `${address.port} (${what})`).join(', ')}`,
    advice: `stop the other program, or set ${taken.map(({ key, variable }) => `${key} or ${variable}`).join(', ')}`,
  }
}

async function checkNode(
  terminal: Terminal,
  options: GlobalOptions,
  config: NodeConfig,
): Promise<readonly Check[]> {
  try {
    using admin = await connect(terminal, options)
    const { state, problems, version, pid } = await admin.status()
    const found = `version ${version}, process ${pid}, ${state}`
    const [problem] = problems
    return problem === undefined
      ? [{ name: 'running node', state: 'ok', found }]
      : [{ name: 'running node', state: 'warn', found, advice: problem }]
  } catch {
    return [
      { name: 'running node', state: 'ok', found: 'none on this data directory' },
      checkPorts(await takenListeners(config)),
    ]
  }
}
