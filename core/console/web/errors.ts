import { type ClientErrorCode, PandoError } from '../../../sdk/index.ts'

/** Errors of the SDK and of S3, for people. */

/** Undefined: what the error itself says is better than anything that could be said of all of its kind. */
const ofTheClient: Readonly<Record<ClientErrorCode, string | undefined>> = {
  NetworkError: 'The node cannot be reached.',
  AttemptTimeout: 'The node has not answered in time.',
  DeadlineExceeded: 'The node has not answered in time.',
  ChecksumMismatch: 'What arrived is not what was stored, and was thrown away. Try again.',
  ObjectChanged: 'The object was changed while it was read. Try again.',
  InvalidAnswer: 'The answer makes no sense: is there a proxy between this page and the node?',
  InvalidArgument: undefined,
  WrongRegion: undefined,
  LocalUnavailable: undefined,
  CredentialsUnavailable: undefined,
}

const notEmpty = 'The bucket is not empty. Older versions and delete markers count, too.'
const notNow = 'The node is busy, or cannot reach what it needs of its region. Try again in a moment.'

/** Where the words of S3 would leave a person alone. Codes in capitals are those of the console's own calls. */
const ofTheServer: ReadonlyMap<string, string> = new Map([
  ['AccessDenied', 'The access key has no right to do that here.'],
  ['NoSuchBucket', 'There is no such bucket.'],
  ['NoSuchKey', 'The object is not there any more.'],
  ['NotFound', 'The object is not there any more.'],
  ['NoSuchVersion', 'That version is not there any more.'],
  ['NoSuchUpload', 'That upload is over: it was completed, or taken back.'],
  ['BucketAlreadyExists', 'The name is taken: another account has a bucket of that name.'],
  ['BucketNotEmpty', notEmpty],
  ['BUCKET_NOT_EMPTY', notEmpty],
  ['KeyTooLongError', 'The name is too long: with its folders it may have 1024 bytes.'],
  [
    'InvalidTag',
    'Of the tags one is not allowed: names and values have letters, digits, spaces and + - = . _ : / @ only, and no name begins with aws:.',
  ],
  ['BadDigest', 'What arrived at the node is not what was sent. Try again.'],
  ['XAmzContentSHA256Mismatch', 'What arrived at the node is not what was sent. Try again.'],
  ['IncompleteBody', 'The upload broke off. Try again.'],
  ['InsufficientStorage', 'There is no room left for it.'],
  ['SlowDown', notNow],
  ['ServiceUnavailable', notNow],
  ['InternalError', 'The node has failed at it; its log says why.'],
])

/** What a person is told of an error. */
export function sentence(error: unknown): string {
  if (!(error instanceof PandoError)) return error instanceof Error ? error.message : String(error)
  const { code, message, requestId, status = 0 } = error
  const known =
    ofTheServer.get(code) ??
    (Object.hasOwn(ofTheClient, code) ? ofTheClient[code as ClientErrorCode] : undefined)
  // The code in front and the S3 operation at the end say something to programmers.
  const text = known ?? message.replace(/^[A-Za-z_]+: /, '').replace(/ \([A-Z][A-Za-z0-9]+\)$/, '')
  if (text === '') return code
  const whole = `${text.slice(0, 1).toUpperCase()}${text.slice(1)}${/[.!?…]$/.test(text) ? '' : '.'}`
  // What an operator finds it by in the log.
  return status >= 500 && requestId !== undefined ? `${whole} (Request ${requestId}.)` : whole
}

export const isLoggedOut = (error: unknown): boolean => error instanceof PandoError && error.status === 401
