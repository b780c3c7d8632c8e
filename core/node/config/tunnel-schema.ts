import { z } from 'zod'
import { parseEndpoint } from '../../../federation/identity/endpoint.ts'
import { federationLimits } from '../../contract/federation.ts'
import { listen, size } from './value-schemas.ts'

/** Slower links would not carry what keeps a tunnel alive. */
const leastBytesPerSecond = 64 * 1024
const bytesPerSecond = size(0).refine(
  (value) => value === 0 || value >= leastBytesPerSecond,
  `0 (no limit), or at least ${leastBytesPerSecond} bytes a second`,
)

/** How this node is reached by other regions. Whom it trusts is said by `pando federation`, not by a file. */
export const tunnelSection = z
  .strictObject({
    listen: listen
      .prefault('127.0.0.1:9004')
      .describe(
        'Address of tunnels from other regions, open once the region has invited or joined another. Env: PANDO_TUNNEL_LISTEN.',
      ),
    endpoints: z
      .array(
        z
          .string()
          .refine(
            (endpoint) => parseEndpoint(endpoint) !== undefined,
            'host:port, for example hub.example.org:9004',
          ),
      )
      .max(federationLimits.endpoints)
      .default([])
      .describe(
        'Where other regions dial this one, where that is another address than `listen`; told to them.',
      ),
    transports: z
      .array(z.enum(['tls', 'quic']))
      .min(1)
      .max(2)
      .refine((names) => new Set(names).size === names.length, 'each once')
      .default(['tls'])
      .describe(
        'What carries tunnels, in the order in which it is tried: tls (TCP), quic (UDP, of the same number; where its package is installed).',
      ),
    connections: z
      .union([z.literal('auto'), z.int().min(1).max(16)])
      .default('auto')
      .describe(
        'How many connections to another region share what is moved in bulk, 1 to 16, by the first of `transports`; auto: where a region is far (10 ms and more), the ways there are measured and the `select` policy chooses.',
      ),
    rateLimit: bytesPerSecond
      .prefault(0)
      .describe(
        'Bytes a second that this node sends to another region at most, over all connections; 0: no limit. Leases and other signs of life go first and never wait; then entries, reads of clients, bodies of replication and those of full synchronizations have shares of what is left.',
      )
      .meta({ 'x-pando-hot': true }),
    rateLimits: z
      .record(z.string().min(1).max(63), bytesPerSecond)
      .prefault({})
      .describe('The same for regions by their names, where it is another limit than `rateLimit`.')
      .meta({ 'x-pando-hot': true }),
    payloadKeys: z
      .record(z.string().regex(/^(0|[1-9][0-9]{0,4})$/, 'the number of a region'), z.string().min(1))
      .default({})
      .describe(
        'Files with secrets, by the numbers of regions: what is sent to such a region, and taken from it, is sealed with its secret within the tunnel, and nothing else is taken. 64 hexadecimal digits, the same file at both ends; up to 4 lines while secrets are changed, of which the first seals and all open.',
      ),
    outboundOnly: z
      .boolean()
      .default(false)
      .describe(
        'Opens no port for tunnels: this region dials the others and cannot be dialed, as behind NAT.',
      ),
  })
  .prefault({})
  .describe('Tunnels to other regions.')
  .meta({ 'x-pando-node': true })
