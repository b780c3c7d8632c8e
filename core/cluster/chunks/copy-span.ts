import type { ChunkId } from '../../contract/ids.ts'
import type { Span } from '../../contract/trace.ts'
import type { RequestOptions } from '../../contract/transport.ts'
import { requestSpanId } from '../../telemetry/tracing.ts'

/** What one node was asked for on behalf of a traced request. That node makes a span of its own below this one. */
export class CopySpan {
  readonly #span: Span
  readonly #node: string
  readonly #chunk: ChunkId
  #requestId: number | undefined

  constructor(trace: Span, op: 'put' | 'get', isLocal: boolean, node: string, chunk: ChunkId) {
    this.#span = trace.child(isLocal ? `store.${op}` : `rpc.${op}`, isLocal ? 'internal' : 'client', {
      'pando.node': node,
    })
    this.#node = node
    this.#chunk = chunk
  }

  /** The options with which the node is asked, so that it knows of the trace. */
  told(options: RequestOptions): RequestOptions {
    return {
      ...options,
      traceId: this.#span.traceId,
      // Of the attempt that was answered last, should there be several.
      onRequestId: (requestId) => {
        this.#requestId = requestId
      },
    }
  }

  end(error?: unknown): void {
    const id =
      this.#requestId === undefined
        ? undefined
        : requestSpanId(this.#span.traceId, this.#requestId, this.#chunk, this.#node)
    this.#span.end(error, id)
  }
}

/** Asks within a span, where there is a trace. */
export async function traced<T>(
  trace: Span | undefined,
  op: 'put' | 'get',
  isLocal: boolean,
  node: string,
  chunk: ChunkId,
  ask: (told: (options: RequestOptions) => RequestOptions) => Promise<T>,
): Promise<T> {
  if (trace === undefined) return ask((options) => options)
  const span = new CopySpan(trace, op, isLocal, node, chunk)
  try {
    const answer = await ask((options) => span.told(options))
    span.end()
    return answer
  } catch (error) {
    span.end(error)
    throw error
  }
}
