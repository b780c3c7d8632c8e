import { invalidArgument, PandoError } from './errors.ts'
import type { HttpAnswer } from './http-answer.ts'

/** Another way to gateways than HTTP over the network, such as that of `pando/sdk/local`. */
export interface Transport {
  /** The way to an endpoint now. Undefined: HTTP, as for all others. */
  way(origin: string): Way | undefined | Promise<Way | undefined>
}

export interface Way {
  /** Whether the body of a request with these headers (lower case) needs no hash in its signature. */
  protects(headers: Readonly<Record<string, string>> | undefined): boolean
  fetch(url: string, init: RequestInit): Promise<HttpAnswer>
}

/** How a client reaches its endpoints. */
export type Protocol = 'auto' | 'http' | 'local'

/** The way to an endpoint now; undefined: HTTP. Rejects with `LocalUnavailable`. */
export type FindWay = (origin: string) => Way | undefined | Promise<Way | undefined>

/** InvalidArgument for what cannot be. */
export function openWays(protocol: Protocol = 'auto', transport?: Transport): FindWay {
  if (protocol !== 'auto' && protocol !== 'http' && protocol !== 'local')
    throw invalidArgument(`protocol is auto, http or local, not ${String(protocol).slice(0, 40)}`)
  if (protocol === 'local' && transport === undefined)
    throw invalidArgument("protocol: 'local' needs a transport, such as localTransport of pando/sdk/local")
  if (protocol === 'http' || transport === undefined) return () => undefined
  if (protocol === 'auto') return (origin) => transport.way(origin)
  const only = (way: Way | undefined, origin: string): Way => {
    if (way !== undefined) return way
    throw new PandoError(
      'LocalUnavailable',
      `the transport has no way to ${origin}, and protocol is 'local'`,
      {
        retryable: true,
        endpoint: origin,
      },
    )
  }
  return (origin) => {
    const found = transport.way(origin)
    return found instanceof Promise ? found.then((way) => only(way, origin)) : only(found, origin)
  }
}
