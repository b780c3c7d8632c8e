/**
 * How the nodes of a region talk about everything but chunks: mutually authenticated and encrypted. Each part of a node takes a
 * topic of its own. Messages are small (at most 1 MiB); what is larger is a stream.
 */
export interface RegionPeers {
  /** Names of the others that have a connection now. */
  connected(): readonly string[]
  /** Best effort: a message to a node that is not connected, or that does not keep up, is dropped. In order, without duplicates. */
  send(to: string, topic: string, message: Uint8Array): void
  /**
   * PEER_UNREACHABLE at once when there is no connection, or when it breaks; DEADLINE_EXCEEDED after `deadlineMs` (2000 unless
   * told); otherwise the StorageError that the other side answered. After the first two it may have happened.
   */
  request(to: string, topic: string, message: Uint8Array, options?: PeerRequestOptions): Promise<Uint8Array>
  /** Pieces in order with back-pressure; errors as of `request`. Leaving the loop ends it at the other side too. */
  stream(to: string, topic: string, message: Uint8Array, signal: AbortSignal): AsyncIterable<Uint8Array>
  /** CONFLICT when the topic is taken. Returns how to give it back. */
  serve(topic: string, handlers: PeerHandlers): () => void
  /** Called when a connection comes or goes; returns how to stop. */
  onChange(listener: (peer: string, isConnected: boolean) => void): () => void
}

export interface PeerRequestOptions {
  readonly deadlineMs?: number
  readonly signal?: AbortSignal
}

/** `from` is the name in the certificate of the other side. What a handler throws goes back as a StorageError. */
export interface PeerHandlers {
  message?(from: string, message: Uint8Array): void
  request?(from: string, message: Uint8Array, signal: AbortSignal): Promise<Uint8Array>
  stream?(from: string, message: Uint8Array, signal: AbortSignal): AsyncIterable<Uint8Array>
}
