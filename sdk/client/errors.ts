/** What a call of the client can fail with. An abort is not among them: it rejects with the signal's own reason. */

export interface PandoErrorOptions extends ErrorOptions {
  readonly status?: number
  readonly requestId?: string
  readonly endpoint?: string
  readonly retryable?: boolean
  readonly ambiguous?: boolean
  readonly retryAfterMs?: number
  readonly attempts?: number
  readonly uploadToken?: string
  readonly details?: Readonly<Record<string, string>>
}

/** Codes that the client itself gives. All others are S3's, as the server sent them (`NoSuchKey`, `SlowDown`, ...). */
export type ClientErrorCode =
  /** The request or its answer did not get through. */
  | 'NetworkError'
  /** One attempt took longer than `attemptTimeoutMs`, or a body stood still for longer than `idleTimeoutMs`. */
  | 'AttemptTimeout'
  /** All attempts together took longer than `deadlineMs`. */
  | 'DeadlineExceeded'
  /** What arrived is not what was stored. */
  | 'ChecksumMismatch'
  /** The object changed while it was read in several requests. */
  | 'ObjectChanged'
  /** The server's answer makes no sense. */
  | 'InvalidAnswer'
  /** The call itself is wrong; nothing was sent. */
  | 'InvalidArgument'
  /** No gateway of the region that was named is among the endpoints. */
  | 'WrongRegion'
  /** With `protocol: 'local'`: the transport does not reach the endpoint now; nothing was sent. */
  | 'LocalUnavailable'
  /** The credentials provider failed. */
  | 'CredentialsUnavailable'

export class PandoError extends Error {
  override readonly name = 'PandoError'
  /** S3's code, or one of `ClientErrorCode`. */
  readonly code: string
  /** HTTP status; undefined: there was no answer. */
  readonly status: number | undefined
  /** The server's name for the request: what its operator finds it by in logs. */
  readonly requestId: string | undefined
  /** The gateway that was asked last. */
  readonly endpoint: string | undefined
  /** The same call may succeed later. The client has already retried as far as its budget allows. */
  readonly retryable: boolean
  /**
   * The server may have done the work although the call failed: the connection broke after the request was sent. Of a
   * conditional write that ends with `PreconditionFailed` it says that an earlier attempt of the same call may be what
   * changed the object.
   */
  readonly ambiguous: boolean
  /** When the server wants to be asked again. */
  readonly retryAfterMs: number | undefined
  /** How often the server was asked. */
  readonly attempts: number
  /** Of an upload that can go on: give it to `put` as `resume`. */
  readonly uploadToken: string | undefined
  /** Other elements of the server's error document, such as `Region` or `Condition`. */
  readonly details: Readonly<Record<string, string>>

  constructor(code: string, message: string, options: PandoErrorOptions = {}) {
    super(`${code}: ${message}`, options.cause === undefined ? undefined : { cause: options.cause })
    this.code = code
    this.status = options.status
    this.requestId = options.requestId
    this.endpoint = options.endpoint
    this.retryable = options.retryable ?? false
    this.ambiguous = options.ambiguous ?? false
    this.retryAfterMs = options.retryAfterMs
    this.attempts = options.attempts ?? 0
    this.uploadToken = options.uploadToken
    this.details = options.details ?? {}
  }

  /** The same error with what is known only later. */
  with(more: PandoErrorOptions): PandoError {
    const prefix = `${this.code}: `
    const { message } = this
    const copy = new PandoError(
      this.code,
      message.startsWith(prefix) ? message.slice(prefix.length) : message,
      { ...this.#options(), ...more },
    )
    if (this.stack !== undefined) copy.stack = this.stack
    return copy
  }

  #options(): PandoErrorOptions {
    return {
      ...(this.cause === undefined ? {} : { cause: this.cause }),
      ...(this.status === undefined ? {} : { status: this.status }),
      ...(this.requestId === undefined ? {} : { requestId: this.requestId }),
      ...(this.endpoint === undefined ? {} : { endpoint: this.endpoint }),
      ...(this.retryAfterMs === undefined ? {} : { retryAfterMs: this.retryAfterMs }),
      ...(this.uploadToken === undefined ? {} : { uploadToken: this.uploadToken }),
      retryable: this.retryable,
      ambiguous: this.ambiguous,
      attempts: this.attempts,
      details: this.details,
    }
  }
}

export const invalidArgument = (message: string): PandoError => new PandoError('InvalidArgument', message)

export const invalidAnswer = (message: string, endpoint?: string): PandoError =>
  new PandoError('InvalidAnswer', message, {
    retryable: true,
    ...(endpoint === undefined ? {} : { endpoint }),
  })
