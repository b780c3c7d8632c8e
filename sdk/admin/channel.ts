import type { AdminCallOptions } from './connection.ts'
import type { AdminSession } from './types.ts'

/** How calls get to a node: the console's HTTP API, or gRPC (`pando/sdk/admin/grpc`). Messages and errors are the same either way. */
export interface AdminChannel {
  /** Where the node is, for messages. */
  readonly origin: string
  /** Waits, for those who look again and again. */
  after(delayMs: number, callback: () => void): () => void
  login(accessKeyId: string, secretAccessKey: string): Promise<AdminSession>
  logout(): Promise<void>
  session(): Promise<AdminSession>
  /** An admin method by its name in the proto files; messages as JSON. */
  call<T>(method: string, body?: object, options?: AdminCallOptions): Promise<T>
  /** A method that tells as it goes. */
  stream<T>(method: string, body: object, options?: AdminCallOptions): AsyncIterable<T>
  /** Prometheus's text format. */
  metrics(options?: AdminCallOptions): Promise<string>
  /** What happened at the node lately. NOT_IMPLEMENTED over gRPC: the console keeps it. */
  events<T>(after: number, options?: AdminCallOptions): Promise<T>
  /** Ends what is open to the node. */
  close(): void
}
