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
