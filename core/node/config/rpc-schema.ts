import { z } from 'zod'
import { parseListen } from './addresses.ts'
import { listen } from './value-schemas.ts'

/** The sections `rpc` and `peers`: how the nodes of a region reach each other. Their meaning is told in core/node/links/README.md. */

export const nodeName = z
  .string()
  .regex(/^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$/, '1 to 32 of a-z, 0-9 and -, not - at an end')

/** `host:port` with a port to dial, or nothing. */
const dialed = z
  .string()
  .refine((text) => text === '' || (parseListen(text)?.port ?? 0) > 0, {
    error: ({ input }) =>
      `'${input}' is not an address to connect to; write host:port, for example 10.0.0.2:9003`,
  })
  .default('')

/** `host:port` to bind, or nothing. */
const bound = z
  .string()
  .refine((text) => text === '' || parseListen(text) !== undefined, {
    error: ({ input }) =>
      `'${input}' is not an address; write host:port, for example 10.0.0.1:9003 (port 0: any free one)`,
  })
  .default('')

/** What the kernel takes for a unix socket, with the zero at its end. */
const maxSocketPathBytes = 107

const socketPath = z
  .string()
  .refine((text) => text === '' || (text.startsWith('/') && Buffer.byteLength(text) <= maxSocketPathBytes), {
    error: ({ input }) => `'${input}' is not an absolute path of at most ${maxSocketPathBytes} bytes`,
  })
  .default('')

export const rpcSection = z
  .strictObject({
    serve: z
      .enum(['auto', 'always', 'never'])
      .default('auto')
      .describe(
        'Whether other nodes may reach the chunks of this one. auto: as soon as there are `peers`; a region of one node opens no such port.',
      ),
    listen: listen
      .prefault('127.0.0.1:9003')
      .describe(
        'TCP address for other nodes, who prove that they know the region key. Env: PANDO_RPC_LISTEN.',
      ),
    encrypt: z
      .enum(['auto', 'required', 'off'])
      .default('auto')
      .describe(
        'Whether what goes between machines is encrypted (AES-256-GCM or ChaCha20-Poly1305 under keys of each session). auto: tcp and ' +
          'ipoib, with every peer that does not say off; rdma cannot be. required: nothing goes in the clear, so rdma is not used, nor a ' +
          'peer that does not encrypt. off: never.',
      ),
    shm: socketPath.describe(
      'Path of a unix socket over which nodes of the same machine share memory. Empty: none.',
    ),
    rdma: bound.describe('IP address and port of an RDMA device (InfiniBand, RoCE, Soft-RoCE). Empty: none.'),
    ipoib: bound.describe(
      'Address of an interface that carries IP over InfiniBand, with a port. Empty: none.',
    ),
    regionKeyFile: z
      .string()
      .default('')
      .describe(
        'File with the secret that all nodes of a region share: 64 hexadecimal digits. Relative to the config file. Empty: ' +
          'PANDO_REGION_KEY, else `region-key` in the data directory, which the first start makes.',
      ),
  })
  .prefault({})
  .describe('Chunk RPC: how nodes of a region read and write the chunks of each other.')
  .meta({ 'x-pando-node': true })

const peerAddresses = z
  .strictObject({
    tcp: dialed.describe('host:port'),
    shm: socketPath.describe('path of a unix socket of this machine'),
    rdma: dialed.describe('host:port'),
    ipoib: dialed.describe('host:port'),
  })
  .refine((addresses) => Object.values(addresses).some((address) => address !== ''), {
    error: 'at least one transport needs an address, for example tcp: 10.0.0.2:9003',
  })

export const peersSection = z
  .array(
    z.strictObject({
      name: nodeName.describe('What the other node calls itself (its `node`).'),
      addresses: peerAddresses.describe('Where it listens, by transport: tcp, shm, rdma, ipoib.'),
      distance: z
        .enum(['auto', 'host', 'rack', 'zone', 'region'])
        .default('auto')
        .describe('How near it is, for policies. auto: host for an address of this machine, else region.'),
    }),
  )
  .max(255)
  .default([])
  .describe('The other nodes of the region: this node keeps a link to each of them.')
  .meta({ 'x-pando-node': true })

export type RpcConfig = z.output<typeof rpcSection>
export type PeerConfig = z.output<typeof peersSection>[number]

/** What one entry alone cannot tell. */
export function checkPeers(
  config: { readonly node: string; readonly peers: readonly { readonly name: string }[] },
  context: z.RefinementCtx,
): void {
  const seen = new Set([config.node])
  for (const [index, { name }] of config.peers.entries()) {
    if (seen.has(name)) {
      const whose = name === config.node ? 'this node itself (`node`)' : 'another peer'
      context.addIssue({
        code: 'custom',
        path: ['peers', index, 'name'],
        message: `'${name}' is the name of ${whose}; names are unique in a region`,
      })
    }
    seen.add(name)
  }
}
