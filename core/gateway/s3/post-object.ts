import { createHmac, timingSafeEqual } from 'node:crypto'
import { StorageError } from '../../contract/errors.ts'
import { credentialsOf } from './authenticate/known-key.ts'
import { deriveSigningKey, hmacSha256 } from './authenticate/signing-key.ts'
import { parseSigningTime } from './authenticate/timestamp.ts'
import { decide, isDenied } from './authorize.ts'
import { bodyOptions, commitBody, storeBody } from './body-writer.ts'
import { accessDenied, invalidArgument } from './errors.ts'
import { type Form, type FormFile, readForm } from './form-data.ts'
import { objectLocation } from './multipart-upload.ts'
import { refuseDeniedParts } from './new-object-rights.ts'
import { checksumHeaders, headerText, newObjectAttributes } from './object-headers.ts'
import { newObjectOwnership } from './object-ownership.ts'
import type {
  BodySource,
  Credentials,
  Gateway,
  Identity,
  Operation,
  OperationContext,
  S3Request,
  S3Response,
} from './operation.ts'
import { checkPostPolicy, type PostPolicy, parsePostPolicy } from './post-policy.ts'
import { newObject } from './put-object.ts'
import { headerTags } from './request-tags.ts'
import { bucketOf, writtenVersion } from './resources.ts'
import type { Route } from './route.ts'
import { objectTagLimits, parseTagging } from './tag-set.ts'
import { element, xmlDeclaration } from './xml.ts'

/**
 * Browser uploads: POST of a form to a bucket. Who asks is said by a signature over the policy document in the form; the
 * file is not read before the fields have been judged.
 * https://docs.aws.amazon.com/AmazonS3/latest/API/RESTObjectPOST.html
 */
const postObject: Operation = {
  name: 'PostObject',
  action: 's3:PutObject',
  selfAuthorized: true,
  async handle(context) {
    const { request } = context
    const form = await readForm(request.body, request.header('content-type'))
    try {
      return await upload(context, form)
    } catch (reason) {
      form.abandon(reason)
      throw reason
    }
  },
}

async function upload(context: OperationContext, form: Form): Promise<S3Response> {
  const { gateway, request } = context
  const bucket = bucketOf(context)
  const { file } = form
  const key = keyOf(form)
  const fields = new Map(form.fields)
  fields.set('key', key)
  // What the form says of the bucket counts for nothing: the address is where the object goes.
  fields.set('bucket', bucket.name)
  const identity = authenticateForm(gateway, fields)
  const encoded = fields.get('policy')
  const policy = encoded === undefined ? undefined : parsePostPolicy(encoded)
  if (policy !== undefined) checkPostPolicy(policy, fields, gateway.environment.clock.now())

  const headers = headersOf(form.fields)
  const formRequest = withHeaders(request, headers, key)
  const question = {
    request,
    identity,
    action: 's3:PutObject',
    bucket,
    key,
    versionId: undefined,
    formFields: headers,
    tags: () => headerTags(headers.get('x-amz-tagging')),
  }
  if (!decide(gateway, question)) throw accessDenied()

  const ownership = newObjectOwnership(gateway, bucket, identity, (name) => headers.get(name))
  const attributes = newObjectAttributes(formRequest, ownership.acl)
  const refuseDenied = (action: string): void => {
    if (isDenied(gateway, { ...question, action })) throw accessDenied()
  }
  refuseDeniedParts(refuseDenied, ownership, attributes)
  const options = { ...bodyOptions(formRequest), storageClass: attributes.storageClass }
  const body = await storeBody(gateway, limited(file, policy), options, request.signal)
  const { versionId } = await commitBody(body, () =>
    gateway.catalog.submit({
      type: 'put-object',
      bucketId: bucket.id,
      key,
      owner: ownership.owner,
      object: newObject(body, attributes),
    }),
  )
  const version = writtenVersion(versionId)
  const answer = answerOf(form.fields, bucket.name, key, body.md5, objectLocation(request, bucket.name, key))
  return {
    ...answer,
    headers: {
      ...answer.headers,
      ...(version === undefined ? {} : { 'x-amz-version-id': version }),
      ...(body.checksum === undefined ? {} : checksumHeaders(body.checksum)),
    },
  }
}

/** Bytes of UTF-8 in the longest key. */
const maxKeyBytes = 1024

function keyOf({ fields, file }: Form): string {
  const template = fields.get('key')
  if (template === undefined || template === '') {
    throw invalidArgument(
      "Bucket POST must contain a field named 'key'.  If it is specified, please check the order of the fields.",
      'key',
      '',
    )
  }
  // Some browsers send whole paths; only the name counts.
  const name = (file.name ?? '').replace(/^.*[/\\]/s, '')
  // biome-ignore lint/suspicious/noTemplateCurlyInString: S3's own placeholder
  const key = template.replaceAll('${filename}', () => name)
  const byteLength = Buffer.byteLength(key)
  if (byteLength > maxKeyBytes) {
    throw new StorageError('KEY_TOO_LONG', 'Your key is too long', {
      details: { Size: String(byteLength), MaxSizeAllowed: String(maxKeyBytes) },
    })
  }
  if (key === '') throw invalidArgument('User key must have a length greater than 0.', 'key', '')
  return key
}

/**
 * Signature V4 or, for forms made by older tools, V2: both sign the policy as it was sent. Without a policy nothing is
 * signed, and the form is anonymous.
 */
function authenticateForm(gateway: Gateway, fields: ReadonlyMap<string, string>): Identity {
  const policy = fields.get('policy')
  const v4 = fields.get('x-amz-signature')
  const v2 = fields.get('signature')
  const claims =
    v4 !== undefined || v2 !== undefined || fields.has('awsaccesskeyid') || fields.has('x-amz-credential')
  if (policy === undefined) {
    if (claims) throw missingField('policy')
    return { kind: 'anonymous' }
  }
  if (fields.has('x-amz-algorithm') || v4 !== undefined) return authenticateV4(gateway, fields, policy, v4)
  const accessKeyId = fields.get('awsaccesskeyid')
  if (accessKeyId === undefined) throw missingField('AWSAccessKeyId')
  if (v2 === undefined) throw missingField('Signature')
  const credentials = credentialsOf(gateway, accessKeyId)
  const expected = createHmac('sha1', credentials.secretKey).update(policy).digest()
  verify(expected, Buffer.from(v2, 'base64'))
  return identityOf(accessKeyId, credentials)
}

const maxSkewMs = 15 * 60_000
/** Signing keys of Signature V4 are good for a week. */
const maxAgeMs = 7 * 24 * 3600_000

function authenticateV4(
  gateway: Gateway,
  fields: ReadonlyMap<string, string>,
  policy: string,
  signature: string | undefined,
): Identity {
  if (fields.get('x-amz-algorithm') !== 'AWS4-HMAC-SHA256') {
    throw invalidArgument(
      'Only AWS4-HMAC-SHA256 is supported',
      'x-amz-algorithm',
      fields.get('x-amz-algorithm') ?? '',
    )
  }
  if (signature === undefined) throw missingField('x-amz-signature')
  const credential = fields.get('x-amz-credential')
  const dateText = fields.get('x-amz-date')
  if (credential === undefined) throw missingField('x-amz-credential')
  if (dateText === undefined) throw missingField('x-amz-date')
  if (fields.has('x-amz-security-token')) {
    throw new StorageError('INVALID_ACCESS_KEY_ID', 'Temporary credentials are not known here.')
  }
  const match = /^(.+)\/(\d{8})\/([^/]+)\/s3\/aws4_request$/.exec(credential)
  const [, accessKeyId, date, region] = match ?? []
  const time = parseSigningTime(dateText)
  if (accessKeyId === undefined || date === undefined || region !== gateway.config.region) {
    throw invalidArgument('The credential is malformed, or of another region', 'x-amz-credential', credential)
  }
  if (time === undefined || time.iso.slice(0, 8) !== date) {
    throw invalidArgument('X-Amz-Date must be of the same day as the credential', 'x-amz-date', dateText)
  }
  const age = gateway.environment.clock.now() - time.ms
  if (age < -maxSkewMs || age > maxAgeMs) {
    throw new StorageError('ACCESS_DENIED', 'Invalid according to Policy: the signature has expired.')
  }
  const credentials = credentialsOf(gateway, accessKeyId)
  const expected = hmacSha256(deriveSigningKey(credentials.secretKey, date, region), policy)
  verify(expected, Buffer.from(signature, 'hex'))
  return identityOf(accessKeyId, credentials)
}

const missingField = (name: string): StorageError =>
  invalidArgument(`Bucket POST must contain a field named '${name}'.`, name, '')

/** Constant time in what was sent; the length of a digest is no secret. */
function verify(expected: Buffer, given: Buffer): void {
  if (given.length === expected.length && timingSafeEqual(given, expected)) return
  throw new StorageError(
    'SIGNATURE_DOES_NOT_MATCH',
    'The request signature we calculated does not match the signature you provided. Check your key and signing method.',
  )
}

const identityOf = (accessKeyId: string, credentials: Credentials): Identity => ({
  kind: 'key',
  account: credentials.account,
  accessKeyId,
  root: credentials.root,
})

/** Fields that stand for headers of a PUT. */
const headerFields = new Set([
  'cache-control',
  'content-type',
  'content-disposition',
  'content-encoding',
  'content-language',
  'expires',
])
/** Headers of a PUT that mean nothing in a form. */
const refusedFields = /^x-amz-(trailer|copy-source|decoded-content-length|write-offset|expected-bucket-owner)/

/** The headers that a PUT of the same object would have. INVALID_ARGUMENT, INVALID_TAG, MALFORMED_XML. */
function headersOf(fields: ReadonlyMap<string, string>): ReadonlyMap<string, string> {
  const headers = new Map<string, string>()
  for (const [name, value] of fields) {
    if (name === 'acl') headers.set('x-amz-acl', value)
    else if (name === 'tagging') {
      headers.set('x-amz-tagging', new URLSearchParams([...parseTagging(value, objectTagLimits)]).toString())
    } else if (headerFields.has(name)) headers.set(name, headerText(value))
    else if (name.startsWith('x-amz-') && !refusedFields.test(name)) {
      // It will be a header of every answer that has the object.
      if (!/^[a-z0-9!#$%&'*+.^_`|~-]+$/.test(name)) throw invalidArgument('Invalid field name', 'name', name)
      headers.set(name, headerText(value))
    }
  }
  return headers
}

/** The request as the PUT that the form stands for. */
function withHeaders(request: S3Request, headers: ReadonlyMap<string, string>, key: string): S3Request {
  const record: Record<string, string> = Object.create(null) as Record<string, string>
  for (const [name, value] of headers) record[name] = value
  return {
    id: request.id,
    method: request.method,
    rawTarget: request.rawTarget,
    query: new Map(),
    headers: record,
    header: (name) => headers.get(name),
    bucketName: request.bucketName,
    virtualHost: request.virtualHost,
    key,
    remoteAddress: request.remoteAddress,
    secure: request.secure,
    presigned: false,
    body: request.body,
    signal: request.signal,
  }
}

/** The file within the policy's content-length-range. ENTITY_TOO_LARGE as soon as it is, ENTITY_TOO_SMALL at its end. */
function limited(file: FormFile, policy: PostPolicy | undefined): BodySource {
  const range = policy?.contentLength
  if (range === undefined) return file
  return {
    declaredBytes: undefined,
    async pump(sink) {
      let length = 0
      await file.pump((piece) => {
        length += piece.length
        if (length > range.max) throw wrongSize('ENTITY_TOO_LARGE', length, range.max)
        return sink(piece)
      })
      if (length < range.min) throw wrongSize('ENTITY_TOO_SMALL', length, range.min)
    },
  }
}

function wrongSize(
  code: 'ENTITY_TOO_LARGE' | 'ENTITY_TOO_SMALL',
  length: number,
  limit: number,
): StorageError {
  const large = code === 'ENTITY_TOO_LARGE'
  return new StorageError(
    code,
    large
      ? 'Your proposed upload exceeds the maximum allowed size'
      : 'Your proposed upload is smaller than the minimum allowed size',
    {
      details: { ProposedSize: String(length), [large ? 'MaxSizeAllowed' : 'MinSizeAllowed']: String(limit) },
    },
  )
}

/** Where the browser goes next: a redirect, a document or nothing. */
function answerOf(
  fields: ReadonlyMap<string, string>,
  bucketName: string,
  key: string,
  etag: string,
  location: string,
): S3Response & { headers: Record<string, string> } {
  const headers: Record<string, string> = { etag: `"${etag}"`, location }
  const target = redirectTarget(fields.get('success_action_redirect') ?? fields.get('redirect'))
  if (target !== undefined) {
    const said = `bucket=${encodeURIComponent(bucketName)}&key=${encodeURIComponent(key)}&etag=%22${etag}%22`
    headers['location'] = `${target}${target.includes('?') ? '&' : '?'}${said}`
    return { status: 303, headers }
  }
  const status = fields.get('success_action_status')
  if (status === '200') return { status: 200, headers }
  if (status !== '201') return { status: 204, headers }
  return {
    status: 201,
    headers,
    body: `${xmlDeclaration}<PostResponse>${element('Location', location)}${element('Bucket', bucketName)}${element(
      'Key',
      key,
    )}${element('ETag', `"${etag}"`)}</PostResponse>`,
  }
}

/** An address of the web, normalised (so that it cannot break out of its header); anything else is ignored, as in S3. */
function redirectTarget(text: string | undefined): string | undefined {
  if (text === undefined || !URL.canParse(text)) return undefined
  const url = new URL(text)
  if (url.protocol !== 'http:' && url.protocol !== 'https:') return undefined
  url.hash = ''
  return url.href
}

export const postRoutes: readonly Route[] = [{ level: 'bucket', method: 'POST', operation: postObject }]
