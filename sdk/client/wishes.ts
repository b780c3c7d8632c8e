/** What a client may ask for with a request beyond S3. */
export interface Wishes {
  /**
   * Class of service, sent as `x-pando-qos-class`. It is a wish: the server's operator decides (`qos.attributes` and the
   * configuration of the classify policy) whether it means anything.
   */
  readonly qos?: string
  /**
   * How many copies of a body have to be durable before a write is answered, in a region of several nodes: `x-pando-acks`. Default: what the
   * region's configuration says.
   */
  readonly acks?: 'one' | 'quorum' | 'all'
}

/** How new a read of a bucket of one's own has to be: `x-pando-consistency`. */
export interface ReadWishes {
  /**
   * `local`: what the gateway that is asked has, even while it is cut off from its region; it may be old. Default `strong`: everything that was
   * acknowledged before.
   */
  readonly consistency?: 'strong' | 'local'
}

/** Of a client for all its calls. */
export interface ClientWishes extends Wishes {
  readonly consistency?: ReadWishes['consistency'] | 'causal'
}

/** What a call says wins. */
export function wishHeaders(client: ClientWishes, call: Wishes & ReadWishes): Record<string, string> {
  const qos = call.qos ?? client.qos
  const acks = call.acks ?? client.acks
  // Causality is a header of its own: the token.
  const consistency = call.consistency ?? (client.consistency === 'causal' ? undefined : client.consistency)
  return {
    ...(qos === undefined ? {} : { 'x-pando-qos-class': qos }),
    ...(consistency === undefined ? {} : { 'x-pando-consistency': consistency }),
    ...(acks === undefined ? {} : { 'x-pando-acks': acks }),
  }
}
