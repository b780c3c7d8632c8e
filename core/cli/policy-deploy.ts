import { existsSync } from 'node:fs'
import { readFile, stat } from 'node:fs/promises'
import { resolve } from 'node:path'
import { StorageError } from '../contract/errors.ts'
import { type PolicySignature, policyModuleBytesMost } from '../contract/policy-deployment.ts'
import type { PolicyDeploymentMessage, PolicyInspectionMessage } from '../control/policy-messages.ts'
import { formatSize, parseDuration } from '../node/config/quantities.ts'
import { connect, type GlobalOptions } from './connect.ts'
import { exitCodes } from './exit-codes.ts'
import { readModule, wholeNumber } from './policy-module.ts'
import { publish, publishedTo, type RegionsOption } from './sharing.ts'
import { facts, type Terminal } from './terminal.ts'

export interface PushOptions extends GlobalOptions, RegionsOption {
  readonly signature?: string
  readonly settings?: string
  readonly activate?: boolean
}

export interface ActivateOptions extends GlobalOptions, RegionsOption {
  readonly settings?: string
  readonly position?: string
  readonly shadow?: string
  readonly canary?: string
  readonly canaryCalls: string
  readonly stepTimeout: string
}

const moduleBytes = policyModuleBytesMost
const configBytes = 16_384
const signatureBytes = 4096

export async function pushPolicy(terminal: Terminal, options: PushOptions, named = '.'): Promise<number> {
  const regions = publishedTo(options)
  const { path, wasm } = readModule(terminal, named)
  if (wasm.length > moduleBytes) {
    throw new StorageError('INVALID_ARGUMENT', `${path} has ${wasm.length} bytes, more than ${moduleBytes}`)
  }
  const signature = await readSignature(terminal, options, `${path}.sig`)
  const config = await readConfigText(terminal, options.settings)
  using admin = await connect(terminal, options)
  const inspection = await admin.policies.push(
    { wasm, ...(signature === undefined ? {} : { signature }) },
    config,
  )
  const name = inspection.manifest?.name ?? ''
  const deployment =
    options.activate === true
      ? await admin.policies.activate({ name, digest: inspection.digest, config })
      : undefined
  if (options.json === true) {
    const epoch = deployment === undefined ? {} : { epoch: deployment.epoch }
    if (regions === undefined) terminal.out(`${JSON.stringify({ ...inspection, ...epoch })}\n`)
  } else showInspection(terminal, inspection)
  if (regions !== undefined) {
    const { digest } = inspection
    const request = { name, digest, config, activate: options.activate === true, regions }
    if (options.json !== true) terminal.out('\n')
    return await publish(admin, terminal, options, request)
  }
  if (options.json === true) return exitCodes.ok[0]
  terminal.out(
    deployment === undefined
      ? `\npushed; nothing asks it yet: 'pando policy activate ${name}'\n`
      : `\nserves since epoch ${deployment.epoch}\n`,
  )
  return exitCodes.ok[0]
}

function showInspection(terminal: Terminal, inspection: PolicyInspectionMessage): void {
  const { digest, byteLength, manifest, hooks, signedBy, vectors, warnings } = inspection
  const fuel = vectors.reduce((most, vector) => Math.max(most, vector.fuel), 0)
  terminal.out(
    facts([
      ['Policy', `${manifest?.name ?? '?'} ${manifest?.version ?? ''}`],
      ['Digest', digest],
      ['Size', formatSize(byteLength)],
      ['Hooks', hooks.join(', ') || 'none'],
      ['Signed by', signedBy === '' ? 'nobody' : signedBy],
      ['Vectors', vectors.length === 0 ? 'none' : `${vectors.length} as expected, at most ${fuel} fuel`],
      ...warnings.map((warning) => ['Warning', warning] as const),
    ]),
  )
}

export async function activatePolicy(
  terminal: Terminal,
  options: ActivateOptions,
  name = '',
  digest = '',
): Promise<number> {
  const { shadow, canary, position } = options
  const regions = publishedTo(options)
  const config = await readConfigText(terminal, options.settings)
  const gradual =
    shadow === undefined && canary === undefined
      ? undefined
      : {
          shadowCalls: wholeNumber(shadow ?? '0', '--shadow', 0, 1e9),
          canaryPercent: wholeNumber(canary ?? '0', '--canary', 0, 99),
          canaryCalls: wholeNumber(options.canaryCalls, '--canary-calls', 0, 1e9),
          stepTimeoutMs: durationOf('--step-timeout', options.stepTimeout),
        }
  using admin = await connect(terminal, options)
  const deployment = await admin.policies.activate({
    name,
    digest,
    config,
    ...(position === undefined ? {} : { position: wholeNumber(position, '--position', 0, 15) }),
    ...(gradual === undefined ? {} : { gradual }),
  })
  if (regions === undefined) return showDeployed(terminal, options, deployment, name)
  if (options.json !== true) showDeployed(terminal, options, deployment, name)
  const versions = deployment.policies.find((policy) => policy.name === name)?.versions ?? []
  const whole = versions.at(-1)?.digest ?? digest
  return await publish(admin, terminal, options, {
    ...{ name, digest: whole, config, activate: true, regions },
    ...(gradual === undefined ? {} : { gradual }),
  })
}

export async function rollbackPolicy(
  terminal: Terminal,
  options: GlobalOptions,
  name = '',
  digest = '',
): Promise<number> {
  using admin = await connect(terminal, options)
  return showDeployed(terminal, options, await admin.policies.rollback(name, digest), name)
}

export async function deactivatePolicy(
  terminal: Terminal,
  options: GlobalOptions,
  name = '',
): Promise<number> {
  using admin = await connect(terminal, options)
  return showDeployed(terminal, options, await admin.policies.deactivate(name), name)
}

function showDeployed(
  terminal: Terminal,
  options: GlobalOptions,
  deployment: PolicyDeploymentMessage,
  name: string,
): number {
  const versions = deployment.policies.find((policy) => policy.name === name)?.versions ?? []
  if (options.json === true) {
    terminal.out(`${JSON.stringify({ epoch: deployment.epoch, name, versions })}\n`)
    return exitCodes.ok[0]
  }
  const shares = versions.map(({ digest, percent }) => {
    return `${digest.slice(0, 12)} ${percent === 0 ? 'in the shadow' : `${percent} %`}`
  })
  terminal.out(`epoch ${deployment.epoch}: ${name} ${shares.join(', ') || 'is not asked'}\n`)
  return exitCodes.ok[0]
}

async function readSignature(
  terminal: Terminal,
  options: PushOptions,
  beside: string,
): Promise<PolicySignature | undefined> {
  if (options.signature === undefined && !existsSync(beside)) return undefined
  const path =
    options.signature === undefined ? beside : resolve(terminal.workingDirectory, options.signature)
  const value = parseJson(path, (await readBounded(path, signatureBytes)).toString('utf8'))
  const { publicKey, signature } = value
  if (typeof publicKey !== 'string' || typeof signature !== 'string') {
    throw new StorageError(
      'INVALID_ARGUMENT',
      `${path} is not a signature: "publicKey" and "signature" in hex`,
    )
  }
  return { publicKey, signature }
}

async function readConfigText(terminal: Terminal, file: string | undefined): Promise<string> {
  if (file === undefined) return '{}'
  const path = resolve(terminal.workingDirectory, file)
  // Written anew, so that white space does not make another version.
  return JSON.stringify(parseJson(path, (await readBounded(path, configBytes)).toString('utf8')))
}

function parseJson(path: string, text: string): Readonly<Record<string, unknown>> {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause)
    throw new StorageError('INVALID_ARGUMENT', `${path} is not JSON: ${why}`, { cause })
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new StorageError('INVALID_ARGUMENT', `${path} is not a JSON object`)
  }
  return value as Readonly<Record<string, unknown>>
}

/** INVALID_ARGUMENT. */
async function readBounded(path: string, bytesMost: number): Promise<Buffer> {
  try {
    const { size } = await stat(path)
    if (size <= bytesMost) return await readFile(path)
    throw new StorageError('INVALID_ARGUMENT', `${path} has ${size} bytes, more than ${bytesMost}`)
  } catch (error) {
    if (error instanceof StorageError) throw error
    const isMissing = (error as NodeJS.ErrnoException).code === 'ENOENT'
    const reason = error instanceof Error ? error.message : String(error)
    throw new StorageError('INVALID_ARGUMENT', isMissing ? `there is no file ${path}` : reason, {
      cause: error,
    })
  }
}

function durationOf(option: string, text: string): number {
  const valueMs = parseDuration(text)
  if (valueMs !== undefined && valueMs >= 1) return Math.round(valueMs)
  throw new StorageError('INVALID_ARGUMENT', `${option}: a duration such as 30s or 10m, not '${text}'`)
}
