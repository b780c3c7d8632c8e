/**
 * Who is told about every S3 request: metrics and the request log. Called on the request's own path, so implementations
 * are cheap, never throw and keep nothing of what they are handed. Nothing in an event is a secret: no header, no query,
 * no body.
 */
export interface RequestObserver {
  /** The head of a request has been parsed; `finished` follows exactly once for each. */
  started(): void
  finished(event: RequestEvent): void
}

export interface RequestEvent {
  /** The x-amz-request-id of the answer. */
  readonly requestId: string
  /** The S3 API name (`PutObject`), or `Unknown` when routing failed. */
  readonly operation: string
  readonly method: string
  /** HTTP status sent; 499 when the client went away before an answer. */
  readonly status: number
  /** S3 error code of the answer, such as `NoSuchKey`; absent on success. */
  readonly errorCode?: string
  /** From the parsed head to the last byte handed to the socket, milliseconds. */
  readonly durationMs: number
  /** Bytes of body taken from, and sent to, the client. */
  readonly bytesIn: number
  readonly bytesOut: number
  readonly bucketName?: string
  readonly key?: string
  readonly accessKeyId?: string
  readonly remoteAddress: string
  /** Position of its class in the plan; absent: it was refused before it had one, or classes are off. */
  readonly qosClass?: number
}

/** An observer that ignores everything: for tests and for a gateway used without a node. */
export const silentObserver: RequestObserver = {
  started() {},
  finished() {},
}
