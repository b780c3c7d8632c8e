/** What a client may ask for with a request beyond S3. */
export interface Wishes {
  /**
   * Class of service, sent as `x-pando-qos-class`. It is a wish: the server's operator decides (`qos.attributes` and the
   * configuration of the classify policy) whether it means anything. `balanced`, the default: no wish, the policy decides.
   */
  readonly qos?: 'balanced' | (string & {})
  /**
   * How many copies of a body have to be durable before a write is answered, in a region of several nodes: `x-pando-acks`. Default: what the
   * region's configuration says.
   */
  readonly acks?: 'one' | 'quorum' | 'all'
  /**
   * Where a write of a bucket that several regions hold has to be before it is answered: `x-pando-replication`. `sync`: durable in another
   * region, too; `InvalidArgument` where none would get it, `ReplicationPending` (the write is stored, and the same call may be made again) when
   * none has told of it by the deadline. `default`: what the bucket's rule and failover group say.
   */
  readonly replication?: 'default' | 'sync'
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

/** How long a gateway may keep a write waiting for another region: it answers before the attempt is over, and says what is known. */
export const replicationWaitMs = (attemptMs: number): number =>
  Math.max(0, Math.min(10_000, Math.floor(attemptMs / 2)))

/** What a call says wins. */
export function wishHeaders(
  client: ClientWishes,
  { method, options: call }: { readonly method: string; readonly options: Wishes & ReadWishes },
  waitMs: number,
): Record<string, string> {
  const qos = call.qos ?? client.qos
  const acks = call.acks ?? client.acks
  // Causality is a header of its own: the token.
  const consistency = call.consistency ?? (client.consistency === 'causal' ? undefined : client.consistency)
  const isSync = (call.replication ?? client.replication) === 'sync' && method !== 'GET' && method !== 'HEAD'
  return {
    ...(qos === undefined || qos === 'balanced' ? {} : { 'x-pando-qos-class': qos }),
    ...(consistency === undefined ? {} : { 'x-pando-consistency': consistency }),
    ...(acks === undefined ? {} : { 'x-pando-acks': acks }),
    ...(isSync ? { 'x-pando-replication': 'sync', 'x-pando-wait-ms': `${waitMs}` } : {}),
  }
}
