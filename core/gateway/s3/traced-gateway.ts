import type { IncomingMessage } from 'node:http'
import type { Catalog, Command, CommandResult } from '../../contract/catalog.ts'
import { type ErrorCode, StorageError } from '../../contract/errors.ts'
import type { RequestEvent } from '../../contract/request-observer.ts'
import type { Span } from '../../contract/trace.ts'
import type { Gateway } from './operation.ts'

/** The gateway as one traced request sees it: what it asks of catalog and chunks becomes a part of its trace. */
export function tracedGateway(gateway: Gateway, trace: Span): Gateway {
  const { catalog } = gateway
  const submit = async <C extends Command>(command: C): Promise<CommandResult<C>> => {
    const whole = trace.child('catalog.submit', 'internal', { 'pando.command': command.type })
    let step = whole.child('catalog.commit')
    const committed = (): void => {
      step.end()
      step = whole.child('catalog.confirm')
    }
    // Another region may ask for the entry before this process hears that it is there.
    const told =
      'bucketId' in command ? gateway.outboxTraces?.expect(command.bucketId, trace.traceParent) : undefined
    try {
      const result = await ended(
        whole,
        () => catalog.submit(command, { committed, placed: (lsn) => told?.(lsn) }),
        (error) => step.end(error),
      )
      if ('place' in result) told?.(result.place?.lsn)
      return result
    } finally {
      told?.()
    }
  }
  // What the catalog reads stays its own: only changes pass through here.
  const traced: Catalog = Object.assign(Object.create(catalog) as Catalog, { submit })
  return { ...gateway, catalog: traced, trace }
}

/** Does the work within the span, which ends with it. */
export async function ended<T>(
  span: Span,
  work: () => Promise<T>,
  also?: (error?: unknown) => void,
): Promise<T> {
  try {
    const result = await work()
    also?.()
    span.end()
    return result
  } catch (error) {
    also?.(error)
    span.end(error)
    throw error
  }
}

/** Ends the span of a whole request. Names of the semantic conventions for HTTP servers and S3. */
export function endRequestSpan(span: Span, event: RequestEvent, error: ErrorCode | undefined): void {
  span.name = `S3 ${event.operation}`
  span.set('http.request.method', event.method)
  span.set('http.response.status_code', event.status)
  span.set('http.request.body.size', event.bytesIn)
  span.set('http.response.body.size', event.bytesOut)
  span.set('aws.request_id', event.requestId)
  if (event.bucketName !== undefined) span.set('aws.s3.bucket', event.bucketName)
  if (event.key !== undefined) span.set('aws.s3.key', event.key)
  // The client's own mistakes are no errors of the server.
  if (event.errorCode !== undefined) span.set('error.type', event.errorCode)
  span.end(error !== undefined && event.status >= 500 ? new StorageError(error, '') : undefined)
}

/** Of the client's span, where it has one. */
export function traceParentOf({ headers }: IncomingMessage): string | undefined {
  const { traceparent } = headers
  return typeof traceparent === 'string' ? traceparent : undefined
}
