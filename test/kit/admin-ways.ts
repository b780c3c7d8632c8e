import assert from 'node:assert/strict'
import { join } from 'node:path'
import { PandoAdmin, PandoError } from '../../sdk/admin/index.ts'
import { grpcChannel } from '../../sdk/admin-grpc/index.ts'
import { type NodeProcess, startNode } from './node-process.ts'

/** Two real regions of one node, and every way to administer the first one: what holds over one holds over the others. */
export interface AdminWays extends AsyncDisposable {
  readonly node: NodeProcess
  readonly other: NodeProcess
  /** Of both. */
  readonly credentials: { readonly accessKeyId: string; readonly secretAccessKey: string }
  /** `HOST:PORT` of the first one's admin service. */
  readonly adminEndpoint: string
  readonly ways: Readonly<Record<'over HTTP' | 'through the socket' | 'over gRPC', () => PandoAdmin>>
  /** The other one, over HTTP. */
  there(): PandoAdmin
}

export async function openAdminWays(): Promise<AdminWays> {
  const store = { backend: 'memory', capacity: '1GiB' }
  const regions = [1, 2].map((regionId) => startNode({ config: { store, regionId } }))
  const [node, other] = await Promise.all(regions)
  assert.ok(node !== undefined && other !== undefined)
  const credentials = { accessKeyId: node.accessKey, secretAccessKey: node.secretKey }
  const overHttp = (of: NodeProcess) => new PandoAdmin({ endpoint: of.consoleUrl, credentials })
  const { adminEndpoint } = await overHttp(node).status()
  return {
    ...{ node, other, credentials, adminEndpoint },
    ways: {
      'over HTTP': () => overHttp(node),
      'through the socket': () => socketAdmin(node),
      'over gRPC': () =>
        new PandoAdmin({ channel: grpcChannel({ endpoint: adminEndpoint, credentials, timeoutMs: 30_000 }) }),
    },
    there: () => overHttp(other),
    async [Symbol.asyncDispose]() {
      await Promise.all([node, other].map((each) => each[Symbol.asyncDispose]()))
    },
  }
}

export const socketAdmin = ({ dataDirectory }: Pick<NodeProcess, 'dataDirectory'>): PandoAdmin =>
  new PandoAdmin({ channel: grpcChannel({ socketPath: join(dataDirectory, 'admin.sock') }) })

/** Of what a call rejects with. */
export const coded = (code: string) => (error: unknown) => error instanceof PandoError && error.code === code
