import type { PooledEndpoint } from './endpoints.ts'
import type { AnswerHeaders, HttpAnswer } from './http-answer.ts'
import type { CallOptions } from './options.ts'

/** One request of the S3 API, before anybody has decided which gateway gets it. */
export interface ApiRequest {
  /** S3's name of the operation, for spans and messages. */
  readonly operation: string
  readonly method: 'GET' | 'HEAD' | 'PUT' | 'POST' | 'DELETE'
  readonly bucket?: string
  readonly key?: string
  readonly query?: Readonly<Record<string, string>>
  /** Lower-case names. */
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: Uint8Array
  /** `stream`: the caller reads the body. `text`: it is read here, and belongs to the attempt. */
  readonly answer: 'text' | 'stream'
  /** Reads, of which a second one beside the first does no harm. */
  readonly hedge?: boolean
  /** However often it is sent, it has one effect where the server knows idempotency keys; a string: the caller's own key. */
  readonly once?: string | true
  /** Only an answer of this region counts. */
  readonly region?: number
  readonly options: CallOptions
}

export interface ApiAnswer {
  readonly status: number
  readonly headers: AnswerHeaders
  /** With `answer: 'text'`. */
  readonly text: string
  /** With `answer: 'stream'`; the caller reads it to its end or calls `discard`. */
  readonly response: HttpAnswer
  readonly endpoint: PooledEndpoint
  readonly attempts: number
  /** An earlier attempt may have done what this one was asked to do. */
  readonly ambiguous: boolean
  /** Ends the connection of a streamed body that nobody will read. */
  discard(): void
}
