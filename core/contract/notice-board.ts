/**
 * What each node of a region shows the others: a few bytes that they read without waking it. Only the last ones are there.
 */
export interface NoticeBoard {
  /** From now on the others read this: `noticeBytes` of core/contract/transport.ts. */
  post(notice: Uint8Array): void
  /**
   * What the other node had posted when it was asked, or something newer. Undefined: there is no such way to it now, or nothing was posted.
   * Rejects as a request of `ChunkPeer` does.
   */
  read(from: string, deadlineMs: number): Promise<Uint8Array | undefined>
}
