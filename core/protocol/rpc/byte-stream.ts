/**
 * A connection that carries bytes in both directions, in order: what the TypeScript twin of the chunk RPC runs over. Its
 * errors are StorageErrors with PEER_UNREACHABLE.
 */
export interface ByteStream {
  /**
   * Sends the pieces in their order; one call at a time. Resolves when the stream can take more (back-pressure) and the
   * pieces may be changed again.
   */
  write(pieces: readonly Uint8Array[]): Promise<void>
  /** Some bytes, valid until the next call; one call at a time. Undefined when the other side has ended its direction. */
  read(): Promise<Uint8Array | undefined>
  /** Ends our direction after what was written. */
  end(): void
  /** Ends both directions at once; reads and writes that wait reject. Harmless when repeated. */
  destroy(): void
}

/** A way to make such connections: `node:net`, a memory network of a test, a QUIC stream. */
export interface StreamNetwork {
  /** INVALID_ARGUMENT (address), UNAVAILABLE (in use). */
  listen(address: string, onConnection: (stream: ByteStream) => void): Promise<StreamListener>
  /** PEER_UNREACHABLE, INVALID_ARGUMENT; the signal's reason when it aborts. */
  connect(address: string, signal: AbortSignal): Promise<ByteStream>
}

export interface StreamListener {
  /** As bound, in the syntax that `connect` takes. */
  readonly address: string
  /** Takes no more connections; those that there are stay. */
  close(): Promise<void>
}
