import { createHash } from 'node:crypto'
import type { PolicyHook } from '../../core/contract/policy.ts'
import {
  type PolicySignature,
  policySignedMessage,
  type TrustedPolicyKey,
} from '../../core/contract/policy-deployment.ts'

/**
 * libsodium, because it refuses keys of small order and signatures that are not canonical. Imported when it is needed: it is
 * WebAssembly, and ends the process at its import where address space is limited. There no policy runs either.
 */
async function loadSodium() {
  const { default: sodium } = await import('libsodium-wrappers')
  await sodium.ready
  return sodium
}

export interface PolicyTrust {
  readonly keys: readonly TrustedPolicyKey[]
  /** Lets modules in that nobody signed: for development, and for the built-in ones. Default false. */
  readonly allowUnsigned?: boolean
  /** Digests that need no signature: the policies that ship with the host. */
  readonly builtin?: ReadonlySet<string>
}

/** A package whose signature is missing, wrong, or not allowed to say what it says. */
export class SignatureRefused extends Error {
  override readonly name = 'SignatureRefused'
}

export function digestOf(wasm: Uint8Array): string {
  return createHash('sha256').update(wasm).digest('hex')
}

/**
 * Checks the signature. Returns the key that made it; `undefined` where none is needed.
 * @throws SignatureRefused
 */
export async function verifySignature(
  digest: string,
  signature: PolicySignature | undefined,
  trust: PolicyTrust,
): Promise<TrustedPolicyKey | undefined> {
  if (trust.builtin?.has(digest) === true) return undefined
  if (signature === undefined) {
    if (trust.allowUnsigned === true) return undefined
    throw new SignatureRefused('the package is not signed, and this region takes signed policies only')
  }
  const key = trust.keys.find(({ publicKey }) => publicKey === signature.publicKey.toLowerCase())
  if (key === undefined) {
    throw new SignatureRefused(
      `the package is signed by ${shortKey(signature.publicKey)}, a key that is not trusted`,
    )
  }
  const sodium = await loadSodium()
  const bytes = hexBytes(signature.signature, sodium.crypto_sign_BYTES)
  const publicKey = hexBytes(key.publicKey, sodium.crypto_sign_PUBLICKEYBYTES)
  const isRight =
    bytes !== undefined &&
    publicKey !== undefined &&
    sodium.crypto_sign_verify_detached(bytes, policySignedMessage(digest), publicKey)
  if (!isRight) {
    throw new SignatureRefused(`the signature by ${shortKey(signature.publicKey)} is not one of this module`)
  }
  return key
}

/**
 * What the key may say: the policy's name is in the module, so this comes after it was examined.
 * @throws SignatureRefused
 */
export function checkKeyAllows(key: TrustedPolicyKey, name: string, hooks: readonly PolicyHook[]): void {
  const mayName = key.names.some((pattern) =>
    pattern.endsWith('*') ? name.startsWith(pattern.slice(0, -1)) : name === pattern,
  )
  if (!mayName) {
    throw new SignatureRefused(
      `the key ${shortKey(key.publicKey)} may not sign a policy called ${name} (only ${key.names.join(', ') || 'none'})`,
    )
  }
  const forbidden = hooks.filter((hook) => !key.hooks.includes(hook))
  if (forbidden.length > 0) {
    throw new SignatureRefused(
      `the key ${shortKey(key.publicKey)} may not sign for the hook ${forbidden.join(', ')} (only ${key.hooks.join(', ') || 'none'})`,
    )
  }
}

/** @param secretKey libsodium's 64 bytes (seed and public key) */
export async function signPolicy(wasm: Uint8Array, secretKey: Uint8Array): Promise<PolicySignature> {
  const sodium = await loadSodium()
  return {
    publicKey: sodium.to_hex(secretKey.subarray(32)),
    signature: sodium.to_hex(sodium.crypto_sign_detached(policySignedMessage(digestOf(wasm)), secretKey)),
  }
}

/** A new key pair from 32 random bytes. */
export async function policyKeyPair(seed: Uint8Array): Promise<{ publicKey: string; secretKey: Uint8Array }> {
  const sodium = await loadSodium()
  const pair = sodium.crypto_sign_seed_keypair(seed)
  return { publicKey: sodium.to_hex(pair.publicKey), secretKey: pair.privateKey }
}

const shortKey = (hex: string) => `${hex.slice(0, 16).toLowerCase()}…`

function hexBytes(hex: string, length: number): Uint8Array | undefined {
  return new RegExp(`^[0-9a-fA-F]{${length * 2}}$`).test(hex)
    ? Uint8Array.from(Buffer.from(hex, 'hex'))
    : undefined
}
