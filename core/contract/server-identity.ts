/** What a TLS server shows to its clients; both PEM. */
export interface ServerIdentity {
  /** The server's certificate, and behind it those between it and its authority. */
  readonly certificate: string
  readonly key: string
}

/** An identity that may be replaced while servers use it. */
export interface ServerIdentitySource {
  current(): ServerIdentity
  /** Called when it has been replaced: connections that are made from then on see the new one. Answers how to stop. */
  onChange(listener: (identity: ServerIdentity) => void): () => void
}
