import { type NodeProcess, type NodeProcessOptions, startNode } from '../kit/node-process.ts'

/** What the client tests talk to. */
export interface Target extends AsyncDisposable {
  readonly endpoint: string
  readonly accessKey: string
  readonly secretKey: string
  readonly region: string
  /** The node behind it; undefined when the tests run against an endpoint given from outside. */
  readonly node: NodeProcess | undefined
}

/**
 * A node of our own, or the endpoint named by PANDO_E2E_ENDPOINT, PANDO_E2E_ACCESS_KEY and PANDO_E2E_SECRET_KEY: a
 * deployed Pando, or another S3 service to find out whether a test or the product is wrong.
 */
export async function openTarget(options: NodeProcessOptions = {}): Promise<Target> {
  const endpoint = process.env['PANDO_E2E_ENDPOINT']
  if (endpoint) {
    return {
      endpoint,
      accessKey: process.env['PANDO_E2E_ACCESS_KEY'] ?? '',
      secretKey: process.env['PANDO_E2E_SECRET_KEY'] ?? '',
      region: process.env['PANDO_E2E_REGION'] ?? 'us-east-1',
      node: undefined,
      async [Symbol.asyncDispose]() {},
    }
  }
  const node = await startNode(options)
  return {
    endpoint: node.endpoint,
    accessKey: node.accessKey,
    secretKey: node.secretKey,
    region: 'us-east-1',
    node,
    [Symbol.asyncDispose]: () => node[Symbol.asyncDispose](),
  }
}
