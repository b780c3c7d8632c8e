import { createPrivateKey, X509Certificate } from 'node:crypto'
import { join } from 'node:path'
import { z } from 'zod'
import { StorageError } from '../../contract/errors.ts'
import { identityUri } from '../../contract/node-identity.ts'
import { type NatsSecrets, parseKeyJson, type RootAccessKeys } from './cluster-keys.ts'
import { keyFiles, readKeyFile } from './key-folder.ts'

/** The keys of one node, checked. Nothing of it is ever logged. */
export interface NodeKeys {
  readonly folder: string
  readonly regionId: number
  readonly node: string
  /** PEM texts, and where they lie for programs that read files. */
  readonly tls: {
    readonly ca: string
    readonly certificate: string
    readonly key: string
    readonly caPath: string
    readonly certificatePath: string
    readonly keyPath: string
  }
  /** 32 bytes each. */
  readonly regionKey: Uint8Array
  readonly sealingKey: Uint8Array
  readonly rootKeys: RootAccessKeys
  readonly nats: NatsSecrets
  /** When the certificate ends, milliseconds since the Unix epoch. */
  readonly expiresMs: number
  /** What works today and will not for ever, as sentences. */
  readonly warnings: readonly string[]
}

export interface NodeKeysRequest {
  readonly folder: string
  /** Who this node says it is; keys of another are refused. */
  readonly node: string
  readonly regionId: number
  /** Milliseconds since the Unix epoch. */
  readonly nowMs: number
}

const warnMs = 60 * 86_400_000

const aboutNode = z.object({
  product: z.literal('pando'),
  format: z.literal(1),
  regionId: z.int(),
  node: z.string(),
})
const rootKeysSchema = z.object({ accessKeyId: z.string().min(3), secretKey: z.string().min(8) })
const natsSchema = z.object({
  user: z.string().min(1),
  password: z.string().min(16),
  routeUser: z.string().min(1),
  routePassword: z.string().min(16),
})

/** Reads a folder that `makeClusterKeys` made. INVALID_CONFIG tells what is wrong with it and what to do. */
export async function loadNodeKeys(request: NodeKeysRequest): Promise<NodeKeys> {
  const { folder, node, regionId, nowMs } = request
  const path = (name: string): string => join(folder, name)
  const read = (name: string): Promise<string> => readKeyFile(folder, name)
  const about = parseKeyJson(aboutNode, await read(keyFiles.about), path(keyFiles.about))
  if (about.node !== node) {
    throw invalid(
      `the keys in ${folder} are those of node '${about.node}', and this node is '${node}': every node has a folder of its own`,
    )
  }
  if (about.regionId !== regionId) {
    throw invalid(`the keys in ${folder} are of region ${about.regionId}, and regionId is ${regionId}`)
  }
  const [ca, certificate, key] = await Promise.all([
    read(keyFiles.authority),
    read(keyFiles.certificate),
    read(keyFiles.key),
  ])
  const authority = parseCertificate(ca, path(keyFiles.authority))
  const own = parseCertificate(certificate, path(keyFiles.certificate))
  checkCertificates(request, authority, own, key)
  const expiresMs = Math.min(Date.parse(own.validTo), Date.parse(authority.validTo))
  return {
    folder,
    regionId,
    node,
    tls: {
      ca,
      certificate,
      key,
      caPath: path(keyFiles.authority),
      certificatePath: path(keyFiles.certificate),
      keyPath: path(keyFiles.key),
    },
    regionKey: decodeKey(await read(keyFiles.regionKey), 'hex', path(keyFiles.regionKey)),
    sealingKey: decodeKey(await read(keyFiles.sealingKey), 'base64', path(keyFiles.sealingKey)),
    rootKeys: parseKeyJson(rootKeysSchema, await read(keyFiles.rootKeys), path(keyFiles.rootKeys)),
    nats: parseKeyJson(natsSchema, await read(keyFiles.nats), path(keyFiles.nats)),
    expiresMs,
    warnings:
      expiresMs - nowMs > warnMs
        ? []
        : [
            `the certificate of node '${node}' ends on ${new Date(expiresMs).toISOString()}: make a new folder of keys for it ` +
              "with 'pando cluster add-node' on the machine that has the authority's folder",
          ],
  }
}

function checkCertificates(
  { folder, node, regionId, nowMs }: NodeKeysRequest,
  authority: X509Certificate,
  own: X509Certificate,
  key: string,
): void {
  if (!authority.ca || !authority.verify(authority.publicKey)) {
    throw invalid(`${join(folder, keyFiles.authority)} is not the certificate of an authority`)
  }
  if (!own.checkIssued(authority) || !own.verify(authority.publicKey)) {
    throw invalid(
      `${join(folder, keyFiles.certificate)} was not issued by the authority in ${keyFiles.authority}: the files are of two regions`,
    )
  }
  if (!holdsIdentity(own, { regionId, name: node })) {
    throw invalid(
      `${join(folder, keyFiles.certificate)} is not the certificate of node '${node}' of region ${regionId}`,
    )
  }
  for (const [name, certificate] of [
    [keyFiles.authority, authority],
    [keyFiles.certificate, own],
  ] as const) {
    if (nowMs > Date.parse(certificate.validTo)) {
      throw invalid(
        `${join(folder, name)} ended on ${certificate.validTo}: make new keys with 'pando cluster add-node'`,
      )
    }
    if (nowMs < Date.parse(certificate.validFrom)) {
      throw invalid(
        `${join(folder, name)} begins on ${certificate.validFrom}: is this machine's clock right?`,
      )
    }
  }
  let fits = false
  try {
    fits = own.checkPrivateKey(createPrivateKey(key))
  } catch {
    // Told below; the parser's own words add nothing.
  }
  if (!fits) throw invalid(`${join(folder, keyFiles.key)} is not the key of ${keyFiles.certificate}`)
}

function holdsIdentity(certificate: X509Certificate, identity: { regionId: number; name: string }): boolean {
  const names = (certificate.subjectAltName ?? '').split(', ')
  return (
    certificate.subject.split('\n').includes(`CN=${identity.name}`) &&
    names.includes(`URI:${identityUri(identity)}`)
  )
}

function parseCertificate(pem: string, path: string): X509Certificate {
  try {
    return new X509Certificate(pem)
  } catch (error) {
    throw new StorageError('INVALID_CONFIG', `${path} is not a certificate`, { cause: error })
  }
}

function decodeKey(text: string, encoding: 'hex' | 'base64', path: string): Uint8Array {
  const bytes = Uint8Array.from(Buffer.from(text.trim(), encoding))
  if (bytes.length !== 32) throw invalid(`${path} does not hold 32 bytes as ${encoding}`)
  return bytes
}

function invalid(reason: string): StorageError {
  return new StorageError('INVALID_CONFIG', reason)
}
