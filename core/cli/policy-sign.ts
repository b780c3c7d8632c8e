import {
  createHash,
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  sign,
} from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { StorageError } from '../contract/errors.ts'
import { type PolicySignature, policySignedMessage } from '../contract/policy-deployment.ts'
import type { GlobalOptions } from './connect.ts'
import { exitCodes } from './exit-codes.ts'
import { readModule } from './policy-module.ts'
import { facts, type Terminal } from './terminal.ts'

export interface SignOptions extends GlobalOptions {
  readonly key: string
  readonly newKey?: boolean
}

export async function signPolicy(terminal: Terminal, options: SignOptions, name?: string): Promise<number> {
  const { path, wasm } = readModule(terminal, name)
  const keyPath = resolve(terminal.workingDirectory, options.key)
  if (options.newKey === true) writeNewKey(keyPath)
  const key = readKey(keyPath)
  const digest = createHash('sha256').update(wasm).digest('hex')
  const signature: PolicySignature = {
    publicKey: rawPublicKey(key),
    signature: sign(null, policySignedMessage(digest), key).toString('hex'),
  }
  writeFileSync(`${path}.sig`, `${JSON.stringify(signature)}\n`)
  if (options.json === true)
    terminal.out(`${JSON.stringify({ path: `${path}.sig`, digest, ...signature })}\n`)
  else {
    terminal.out(
      facts([
        ['Signed', path],
        ['Digest', digest],
        ['Signature', `${path}.sig`],
        ['Public key', `${signature.publicKey}   for the region's list of allowed keys`],
      ]),
    )
  }
  return exitCodes.ok[0]
}

/** Never over another file: a lost key cannot be made again. */
function writeNewKey(path: string): void {
  const { privateKey } = generateKeyPairSync('ed25519')
  try {
    writeFileSync(path, privateKey.export({ type: 'pkcs8', format: 'pem' }), { mode: 0o600, flag: 'wx' })
  } catch (error) {
    const exists = error instanceof Error && 'code' in error && error.code === 'EEXIST'
    if (exists)
      throw new StorageError('INVALID_ARGUMENT', `${path} exists already: --new-key never replaces a key`)
    throw StorageError.from(error, 'IO_ERROR')
  }
}

function readKey(path: string): KeyObject {
  let key: KeyObject
  try {
    key = createPrivateKey(readFileSync(path))
  } catch (error) {
    // Not the library's own words: they may quote what is in the file.
    throw new StorageError('INVALID_ARGUMENT', `${path} is no private key in PEM; --new-key makes one`, {
      cause: error,
    })
  }
  if (key.asymmetricKeyType !== 'ed25519')
    throw new StorageError(
      'INVALID_ARGUMENT',
      `${path} is a key of another kind: policies are signed with Ed25519`,
    )
  return key
}

/** The last 32 bytes of the SPKI form are the key itself (RFC 8410). */
function rawPublicKey(key: KeyObject): string {
  return createPublicKey(key).export({ type: 'spki', format: 'der' }).subarray(-32).toString('hex')
}
