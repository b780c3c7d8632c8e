/** An entry of another region that could not be applied yet, in the retry table. */
export interface RetryRecord {
  readonly lsn: number
  readonly key: string
  readonly bytes: Uint8Array
  readonly sinceMs: number
  readonly attempts: number
  /** Not before this is it tried again. */
  readonly nextMs: number
  readonly reason: string
  /** Given up by itself; an operator may have it tried again. */
  readonly dead: boolean
}
