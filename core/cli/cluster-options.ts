import type { GlobalOptions } from './connect.ts'

export interface InitOptions extends GlobalOptions {
  readonly directory: string
  readonly region: string
  readonly replicas: string
  /** `cluster.discovery`. */
  readonly discovery?: readonly string[]
  /** Data directory of a node that was a region of its own. */
  readonly from?: string
}

export interface ChangeOptions extends GlobalOptions {
  readonly wait?: boolean
  readonly weight?: string
  readonly zone?: string
  readonly rack?: string
  readonly force?: boolean
}
