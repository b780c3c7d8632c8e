import { z } from 'zod'
import { failoverLimits } from '../../contract/failover.ts'
import { checkCluster, clusterSection } from './cluster-schema.ts'
import { policiesSection } from './policies-schema.ts'
import { qosSection } from './qos-schema.ts'
import { checkPeers, nodeName, peersSection, rpcSection } from './rpc-schema.ts'
import { bdevList, checkStoreSection, spdkMemory } from './spdk-schema.ts'
import { checkObjectives, telemetrySection } from './telemetry-schema.ts'
import { checkTls, tlsSection } from './tls-schema.ts'
import { tunnelSection } from './tunnel-schema.ts'
import { duration, listen, size } from './value-schemas.ts'

/**
 * The configuration of a node: one YAML or JSON file. Every key has a description (a test insists), a default, and
 * unknown keys are refused. What the product sees is the output type: sizes in bytes, durations in milliseconds.
 */

const KiB = 1024
const MiB = 1024 * KiB
const secondMs = 1000
const dayMs = 86_400_000

const s3 = z
  .strictObject({
    listen: listen
      .prefault('127.0.0.1:9000')
      .describe('Address of the S3 endpoint. Loopback unless you say otherwise. Env: PANDO_S3_LISTEN.')
      .meta({ 'x-pando-node': true }),
    domains: z
      .array(z.string().regex(/^[a-z0-9.-]+$/, 'a domain name in lower case, without a port'))
      .default([])
      .describe('Domains under which buckets are served virtual-host style (bucket.<domain>).'),
    endpoints: z
      .array(
        z.string().refine((url) => {
          const parsed = URL.canParse(url) ? new URL(url) : undefined
          return parsed?.origin === url && /^https?:$/.test(parsed.protocol)
        }, 'https://host:port, without a path'),
      )
      .max(failoverLimits.endpoints)
      .default([])
      .describe(
        'Where clients reach the gateways of this region, told to other regions: they send writes of buckets that this one leads here.',
      ),
    inlineBytes: size(0, 64 * KiB)
      .prefault('4KiB')
      .describe('Bodies up to this size are kept in the catalog: one log write, no chunk. At most 64KiB.'),
    chunkBytes: size(64 * KiB, 4 * MiB)
      .prefault('4MiB')
      .describe('Size of the pieces that larger bodies are cut into. 64KiB to 4MiB.'),
    windowBytes: size(64 * KiB, 1024 * MiB)
      .prefault('16MiB')
      .describe('Bytes in flight for one request: read-ahead for GET, write-behind for PUT.'),
    idleTimeout: duration(secondMs, dayMs)
      .prefault('60s')
      .describe('A client that sends or takes nothing for so long is cut.'),
    maxConnections: z
      .int()
      .min(1)
      .max(1_000_000)
      .default(16_384)
      .describe('Connections served at the same time; more are refused.'),
    local: z
      .strictObject({
        directory: z
          .string()
          .regex(/^(\/.*)?$/, 'an absolute path')
          .default('')
          .describe(
            "A directory on tmpfs, such as /dev/shm/pando, through which applications of this machine reach the node ('pando/sdk/local'): a unix socket, and shared memory for bodies. Made (mode 0711) when it is missing. Empty: there is none. Env: PANDO_S3_LOCAL.",
          ),
        memory: size(0)
          .prefault('256MiB')
          .describe(
            'Shared memory for all applications together; each takes 32MiB, those of one account two thirds of it at most. 0: bodies go through the socket.',
          ),
      })
      .prefault({})
      .describe("The door for applications on the node's own machine.")
      .meta({ 'x-pando-node': true }),
  })
  .prefault({})
  .describe('The S3 endpoint.')

const store = z
  .strictObject({
    backend: z
      .enum(['auto', 'uring', 'posix', 'memory', 'reference', 'spdk'])
      .default('auto')
      .describe(
        'How chunks reach the disk. auto: io_uring where the kernel has it, else posix, else (no native addon) the ' +
          'TypeScript reference store. memory keeps nothing after a stop: for trials only. spdk: the devices of bdevs, ' +
          'driven from user space; needs a build with SPDK (native/README.md).',
      )
      .meta({ 'x-pando-node': true }),
    capacity: z
      .union([z.literal('auto'), size(16 * MiB)])
      .prefault('auto')
      .describe(
        'Bytes that chunks may take on the disk. auto: what is free there but for a twentieth (at least 256MiB, at most 8GiB; less on a ' +
          'disk with less than 768MiB), which the catalog and the machine need. A new store needs 576MiB.',
      )
      .meta({ 'x-pando-node': true }),
    pool: size(16 * MiB)
      .prefault('256MiB')
      .describe(
        'Memory for bodies in flight. When it is used up, clients wait: this bounds memory under load.',
      ),
    cache: size(0).prefault('256MiB').describe('Memory for chunks read recently. 0 turns the cache off.'),
    reactors: z
      .union([z.literal('auto'), z.int().min(1).max(256)])
      .default('auto')
      .describe(
        'Threads of the native data plane. auto: half the cores. A directory keeps the number it was made with.',
      )
      .meta({ 'x-pando-node': true }),
    bdevs: bdevList.meta({ 'x-pando-node': true }),
    spdkMemory: spdkMemory.meta({ 'x-pando-node': true }),
  })
  .superRefine(checkStoreSection)
  .prefault({})
  .describe('The chunk store: the bytes of objects.')

const maintenance = z
  .strictObject({
    collectInterval: duration(100, dayMs)
      .prefault('5s')
      .describe('How often space of deleted and overwritten objects is given back.'),
    orphanInterval: duration(secondMs)
      .prefault('6h')
      .describe(
        'How often chunks are looked for that no object owns (left by a crash in the middle of a write).',
      ),
    scrubInterval: duration(60 * secondMs)
      .prefault('14d')
      .describe('How often every stored byte is read and checked against its checksum.'),
  })
  .prefault({})
  .describe('Work in the background.')

export const configSchema = z
  .strictObject({
    data: z
      .string()
      .min(1)
      .default('./data')
      .describe(
        'Directory of everything the node keeps; made (mode 0700) when it is missing. Relative to the config ' +
          'file; without one, and in PANDO_DATA and --data, to the working directory. Env: PANDO_DATA.',
      )
      .meta({ 'x-pando-node': true }),
    node: nodeName
      .default('node-1')
      .describe('Name of this node, unique in the region. Env: PANDO_NODE; option: --node.')
      .meta({ 'x-pando-node': true }),
    region: z
      .string()
      .regex(/^[a-z0-9-]{1,32}$/, '1 to 32 of a-z, 0-9 and -')
      .default('us-east-1')
      .describe('Name of the region in signatures and LocationConstraint.')
      .meta({ 'x-pando-node': true }),
    regionId: z
      .int()
      .min(0)
      .max(65_535)
      .default(1)
      .describe('Number of the region, unique in the federation; part of every version id. Never change it.')
      .meta({ 'x-pando-node': true }),
    role: z
      .enum(['region', 'edge', 'witness'])
      .default('region')
      .describe(
        'What this node is. edge: a region that opens no port for tunnels, has no vote in failover groups and works while it is cut off. witness: it votes in failover groups of other regions, and has no S3 endpoint and no buckets. Env: PANDO_ROLE; option of up: --role.',
      )
      .meta({ 'x-pando-node': true }),
    s3,
    admin: z
      .strictObject({
        listen: listen
          .prefault('127.0.0.1:9001')
          .describe('Address of the admin service (gRPC, root key required). Env: PANDO_ADMIN_LISTEN.'),
      })
      .prefault({})
      .describe('The admin service that the `pando` command talks to.')
      .meta({ 'x-pando-node': true }),
    console: z
      .strictObject({
        listen: listen
          .prefault('127.0.0.1:9002')
          .describe(
            'Address of the console (with a log-in), /metrics and /healthz (without). HTTPS with tls.certFile. Env: PANDO_CONSOLE_LISTEN.',
          ),
      })
      .prefault({})
      .describe('Console, metrics and health.')
      .meta({ 'x-pando-node': true }),
    tls: tlsSection,
    cluster: clusterSection,
    rpc: rpcSection,
    peers: peersSection,
    tunnel: tunnelSection,
    store,
    qos: qosSection,
    policies: policiesSection,
    maintenance,
    log: z
      .strictObject({
        level: z
          .enum(['trace', 'debug', 'info', 'warn', 'error'])
          .default('info')
          .describe('Least severe messages logged. debug adds one line per request. Env: PANDO_LOG_LEVEL.'),
        format: z
          .enum(['auto', 'json', 'text'])
          .default('auto')
          .describe('Log lines on stderr. auto: text on a terminal, JSON otherwise.'),
      })
      .prefault({})
      .describe('What is logged, and how.'),
    telemetry: telemetrySection,
    stop: z
      .strictObject({
        drainTimeout: duration(0, 3600 * secondMs)
          .prefault('30s')
          .describe('How long requests in flight may take to finish after SIGTERM; then they are cut.'),
      })
      .prefault({})
      .describe('How the node stops.'),
  })
  .superRefine(checkPeers)
  .superRefine(checkCluster)
  .superRefine(checkTls)
  .superRefine(checkObjectives)
  .describe('Configuration of a Pando node.')

/** Validated, defaults filled in; sizes in bytes, durations in milliseconds. */
export type NodeConfig = z.output<typeof configSchema>
