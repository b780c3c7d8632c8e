import { createHash, createPrivateKey, createPublicKey, webcrypto, X509Certificate } from 'node:crypto'
import { isIP } from 'node:net'
import { BitString, Integer, OctetString, Utf8String } from 'asn1js'
import {
  AttributeTypeAndValue,
  AuthorityKeyIdentifier,
  BasicConstraints,
  Certificate,
  Extension,
  ExtKeyUsage,
  GeneralName,
  GeneralNames,
  type RelativeDistinguishedNames,
} from 'pkijs'
import type { Environment } from '../../contract/clock.ts'
import { StorageError } from '../../contract/errors.ts'
import { identityUri, type NodeIdentity } from '../../contract/node-identity.ts'

/** PEM texts. */
export interface CertifiedKey {
  readonly certificate: string
  /** PKCS #8. */
  readonly key: string
}

/** Certificates begin so much before now: the clocks of the nodes need not agree to the second. */
const earlyMs = 3_600_000
const dayMs = 86_400_000
const authorityDays = 3653
const nodeDays = 731

/** RFC 5280, appendix A. */
const oid = {
  commonName: '2.5.4.3',
  subjectKeyId: '2.5.29.14',
  keyUsage: '2.5.29.15',
  subjectAltName: '2.5.29.17',
  basicConstraints: '2.5.29.19',
  authorityKeyId: '2.5.29.35',
  extendedKeyUsage: '2.5.29.37',
  serverAuth: '1.3.6.1.5.5.7.3.1',
  clientAuth: '1.3.6.1.5.5.7.3.2',
} as const

/** First byte of KeyUsage (RFC 5280, 4.2.1.3): bit 0 is the highest. */
const digitalSignature = 0x80
const signsCertificates = 0x04 | 0x02

/** `dNSName` and `iPAddress` of RFC 5280, 4.2.1.6, by the number of their tag. */
const altName = { dns: 2, uri: 6, ip: 7 } as const

/** A region's own authority (ECDSA P-256), for ten years. Nobody else's certificate is ever asked for. */
export async function makeAuthority(regionId: number, environment: Environment): Promise<CertifiedKey> {
  const keys = await makeKeys()
  const certificate = await prepare(keys.publicKey, authorityDays, environment)
  const name = commonName(`Pando region ${regionId}`)
  certificate.subject.typesAndValues.push(name)
  certificate.issuer.typesAndValues.push(name)
  const spki = await spkiOf(keys.publicKey)
  certificate.extensions = [
    extension(oid.basicConstraints, true, new BasicConstraints({ cA: true, pathLenConstraint: 0 })),
    keyUsage(signsCertificates, 1),
    extension(oid.subjectKeyId, false, new OctetString({ valueHex: keyId(spki) })),
  ]
  await certificate.sign(keys.privateKey, 'SHA-256')
  return { certificate: pemOf(certificate), key: await privatePem(keys.privateKey) }
}

/**
 * A node's certificate, for two years, for both ends of a connection. `hosts` are the names and addresses under which others
 * reach it: what checks host names (NATS routes do) finds them. INVALID_ARGUMENT when the authority's key is not its own.
 */
export async function issueNodeCertificate(
  authority: CertifiedKey,
  identity: NodeIdentity,
  hosts: readonly string[],
  environment: Environment,
): Promise<CertifiedKey> {
  const issuer = new X509Certificate(authority.certificate)
  const signingKey = createPrivateKey(authority.key)
  if (!issuer.checkPrivateKey(signingKey)) {
    throw new StorageError('INVALID_ARGUMENT', "the authority's key is not the key of its certificate")
  }
  const keys = await makeKeys()
  const certificate = await prepare(keys.publicKey, nodeDays, environment)
  certificate.issuer = subjectOf(issuer)
  certificate.subject.typesAndValues.push(commonName(identity.name))
  const names = [
    new GeneralName({ type: altName.uri, value: identityUri(identity) }),
    ...[...new Set([identity.name, ...hosts])].map(hostName),
  ]
  const issuerId = keyId(createPublicKey(signingKey).export({ type: 'spki', format: 'der' }))
  certificate.extensions = [
    extension(oid.basicConstraints, true, new BasicConstraints({ cA: false })),
    keyUsage(digitalSignature, 7),
    extension(
      oid.extendedKeyUsage,
      false,
      new ExtKeyUsage({ keyPurposes: [oid.serverAuth, oid.clientAuth] }),
    ),
    extension(oid.subjectAltName, false, new GeneralNames({ names })),
    extension(oid.subjectKeyId, false, new OctetString({ valueHex: keyId(await spkiOf(keys.publicKey)) })),
    extension(
      oid.authorityKeyId,
      false,
      new AuthorityKeyIdentifier({ keyIdentifier: new OctetString({ valueHex: issuerId }) }),
    ),
  ]
  const imported = await webcrypto.subtle.importKey(
    'pkcs8',
    signingKey.export({ type: 'pkcs8', format: 'der' }),
    { name: 'ECDSA', namedCurve: 'P-256' },
    false,
    ['sign'],
  )
  await certificate.sign(imported, 'SHA-256')
  return { certificate: pemOf(certificate), key: await privatePem(keys.privateKey) }
}

function makeKeys(): Promise<webcrypto.CryptoKeyPair> {
  return webcrypto.subtle.generateKey({ name: 'ECDSA', namedCurve: 'P-256' }, true, ['sign', 'verify'])
}

async function prepare(
  publicKey: webcrypto.CryptoKey,
  days: number,
  { clock, randomness }: Environment,
): Promise<Certificate> {
  const certificate = new Certificate()
  // X.509 v3 is written as 2.
  certificate.version = 2
  // RFC 5280, 4.1.2.2: positive, at most 20 bytes; 64 random bits and more make it unique.
  const serial = randomness.fill(new Uint8Array(16))
  serial[0] = ((serial[0] ?? 0) & 0x7f) | 0x40
  certificate.serialNumber = new Integer({ valueHex: serial })
  const now = clock.now()
  certificate.notBefore.value = new Date(now - earlyMs)
  certificate.notAfter.value = new Date(now + days * dayMs)
  await certificate.subjectPublicKeyInfo.importKey(publicKey)
  return certificate
}

function commonName(value: string): AttributeTypeAndValue {
  return new AttributeTypeAndValue({ type: oid.commonName, value: new Utf8String({ value }) })
}

function subjectOf(issuer: X509Certificate): RelativeDistinguishedNames {
  return Certificate.fromBER(issuer.raw).subject
}

interface Encodable {
  toBER?(sizeOnly?: boolean): ArrayBuffer
  toSchema?(): { toBER(sizeOnly?: boolean): ArrayBuffer }
}

function extension(extnID: string, critical: boolean, value: Encodable): Extension {
  const extnValue = value.toSchema?.().toBER(false) ?? value.toBER?.(false)
  if (extnValue === undefined) throw new TypeError('an extension without an encoding')
  return new Extension({ extnID, critical, extnValue })
}

function keyUsage(bits: number, unusedBits: number): Extension {
  return extension(oid.keyUsage, true, new BitString({ valueHex: Uint8Array.of(bits), unusedBits }))
}

function hostName(host: string): GeneralName {
  const version = isIP(host)
  if (version === 0) return new GeneralName({ type: altName.dns, value: host })
  return new GeneralName({
    type: altName.ip,
    value: new OctetString({ valueHex: addressBytes(host, version) }),
  })
}

/** 4 or 16 bytes. */
function addressBytes(host: string, version: number): Uint8Array<ArrayBuffer> {
  if (version === 4) return Uint8Array.from(host.split('.').map(Number))
  // The URL parser knows every way to write an IPv6 address; what it gives back has only one.
  const [head = '', tail] = new URL(`http://[${host.split('%')[0] ?? ''}]`).hostname.slice(1, -1).split('::')
  const groups = (text: string): readonly number[] =>
    text === '' ? [] : text.split(':').map((group) => Number.parseInt(group, 16))
  const front = groups(head)
  const back = groups(tail ?? '')
  const all = [...front, ...new Array<number>(8 - front.length - back.length).fill(0), ...back]
  return Uint8Array.from(all.flatMap((group) => [group >> 8, group & 0xff]))
}

async function spkiOf(publicKey: webcrypto.CryptoKey): Promise<Uint8Array> {
  return new Uint8Array(await webcrypto.subtle.exportKey('spki', publicKey))
}

/** RFC 7093, method 4: any hash of the key serves, as long as both sides of the chain say the same. */
function keyId(spki: Uint8Array): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(createHash('sha256').update(spki).digest().subarray(0, 20))
}

function pemOf(certificate: Certificate): string {
  return new X509Certificate(Buffer.from(certificate.toSchema(true).toBER(false))).toString()
}

async function privatePem(key: webcrypto.CryptoKey): Promise<string> {
  const der = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', key))
  return createPrivateKey({ key: der, format: 'der', type: 'pkcs8' })
    .export({ type: 'pkcs8', format: 'pem' })
    .toString()
}
