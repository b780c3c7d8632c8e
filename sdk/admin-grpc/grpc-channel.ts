import { errorCodes, StorageError } from '../../core/contract/errors.ts'
import { openAdminChannel } from '../../core/control/admin-channel.ts'
import { isUnreachable } from '../../core/control/unreachable.ts'
import type { AdminChannel } from '../admin/channel.ts'
import type { Credentials } from '../client/credentials.ts'
import { webEnvironment } from '../client/environment.ts'
import { invalidArgument, PandoError } from '../client/errors.ts'
import { nodeEnvironment } from './environment.ts'

export type GrpcChannelOptions = {
  /** For an answer to begin. Default 90 000: an election waits for the lease of the old primary to end. */
  readonly timeoutMs?: number
} & (
  | {
      /** `admin.sock` in the data directory of a node on this machine: whoever may open it needs no key. */
      readonly socketPath: string
    }
  | {
      /** `HOST:PORT` of the admin service; `https://HOST:PORT` with TLS. */
      readonly endpoint: string
      /** The root key, which signs every call and is not sent. */
      readonly credentials: Pick<Credentials, 'accessKeyId' | 'secretAccessKey'>
      /** PEM of the authority of the node's certificate, when this machine does not trust it. */
      readonly ca?: string
    }
)

/**
 * A way to the admin service for `new PandoAdmin({ channel })`. Nothing is sent before the first call; `close` ends it. Messages and
 * errors are those of the HTTP API. There is no session: `login` and `session` reject with InvalidArgument, `events`, which the
 * console keeps, with NOT_IMPLEMENTED.
 */
export function grpcChannel(options: GrpcChannelOptions): AdminChannel {
  const { timeoutMs = 90_000 } = options
  const origin = 'socketPath' in options ? `unix:${options.socketPath}` : options.endpoint
  const channel = openAdminChannel(targetOf(options), nodeEnvironment)

  function refused(reason: unknown, signal: AbortSignal | undefined): unknown {
    return signal?.aborted === true ? signal.reason : errorOf(StorageError.from(reason), origin)
  }

  async function call<T>(
    method: string,
    body: object = {},
    { signal }: { readonly signal?: AbortSignal } = {},
  ): Promise<T> {
    try {
      if (method === 'CreateKey') {
        const { name = '', account = '' } = body as { readonly name?: string; readonly account?: string }
        return (await channel.createKey({ name, account }, timeoutMs)) as T
      }
      return (await channel.call(method, body, timeoutMs, signal)) as T
    } catch (reason) {
      throw refused(reason, signal)
    }
  }

  const noSession = async (): Promise<never> => {
    throw invalidArgument('over gRPC every call is signed: there is no session')
  }
  return {
    origin,
    after: (delayMs, callback) => webEnvironment.after(delayMs, callback),
    login: noSession,
    session: noSession,
    async logout() {},
    call,
    async *stream<T>(method: string, body: object, { signal }: { readonly signal?: AbortSignal } = {}) {
      try {
        yield* channel.stream<T>(method, body, signal)
      } catch (reason) {
        throw refused(reason, signal)
      }
    },
    metrics: async (callOptions) => (await call<{ text: string }>('GetMetrics', {}, callOptions)).text,
    async events() {
      throw new PandoError('NOT_IMPLEMENTED', 'events are kept by the console: ask over its HTTP API')
    },
    close: () => channel.close(),
  }
}

function targetOf(options: GrpcChannelOptions): Parameters<typeof openAdminChannel>[0] {
  if ('socketPath' in options) return { kind: 'socket', path: options.socketPath }
  const { endpoint, credentials, ca } = options
  const [, scheme, address = ''] = /^(https?:\/\/)?([^/\s]+:\d{1,5})\/?$/.exec(endpoint) ?? []
  if (address === '') throw invalidArgument(`not an endpoint: ${String(endpoint).slice(0, 200)}`)
  const keys = { accessKeyId: credentials.accessKeyId, secretKey: credentials.secretAccessKey }
  const target = { kind: 'tcp', address, keys } as const
  return scheme === 'https://' ? { ...target, tls: ca === undefined ? {} : { ca } } : target
}

function errorOf(error: StorageError, endpoint: string): PandoError {
  const { code, reason: message, retryable } = error
  if (isUnreachable(error)) {
    const isLate = code === 'TIMEOUT'
    const said = isLate ? 'no answer in time' : 'the node cannot be reached'
    return new PandoError(isLate ? 'AttemptTimeout' : 'NetworkError', said, {
      ...{ cause: error, retryable: true, ambiguous: true, endpoint },
    })
  }
  return new PandoError(code, message, { cause: error, status: errorCodes[code].http, retryable, endpoint })
}
