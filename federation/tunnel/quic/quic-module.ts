import { createRequire } from 'node:module'
import type { TunnelCredentials } from '../../../core/contract/tunnel.ts'

/**
 * The N-API classes of @chainsafe/libp2p-quic 2.1.1 (quinn), as far as they are used, straight from its platform package. They are
 * its own inner interface: the version is pinned and test/conformance/tunnel-quic.test.ts holds them to what is expected here.
 */
export interface QuicModule {
  readonly QuinnConfig: new (options: QuicOptions) => object
  readonly Server: new (config: object, ip: string, port: number) => QuicServer
  /** `family`: 0 for IPv4, 1 for IPv6. */
  readonly Client: new (
    config: object,
    family: 0 | 1,
  ) => QuicClient
}

interface QuicOptions {
  readonly privateKeyProto: Uint8Array
  readonly handshakeTimeout: number
  readonly maxIdleTimeout: number
  readonly keepAliveInterval: number
  readonly maxConcurrentStreamLimit: number
  readonly maxStreamData: number
  readonly maxConnectionData: number
  readonly receiveBufferSize: number
  readonly sendBufferSize: number
}

export interface QuicServer {
  port(): number
  inboundConnection(): Promise<QuicConnection>
  abort(): void
}

export interface QuicClient {
  outboundConnection(ip: string, port: number): Promise<QuicConnection>
  abort(): void
}

export interface QuicConnection {
  /** Ends with `/p2p/` and the peer id, on both sides. */
  remoteMultiaddr(): string
  outboundStream(): Promise<QuicNativeStream>
  inboundStream(): Promise<QuicNativeStream>
  /** Resolves when it has ended, however. */
  closed(): Promise<void>
  abort(): void
  /** Milliseconds. */
  rtt(): number
  stats(): {
    readonly udpTxBytes: number | bigint
    readonly udpRxBytes: number | bigint
    readonly pathLostPackets: number | bigint
    readonly pathSentPackets: number | bigint
  }
}

/** One that is collected before both its directions have ended looks to the other side like one that has ended well. */
export interface QuicNativeStream {
  read(maxBytes: number): Promise<Uint8Array | null>
  write(bytes: Uint8Array): Promise<void>
  finishWrite(): Promise<void>
  resetWrite(): Promise<void>
  stopRead(): Promise<void>
}

/** undefined where it is not installed: on other platforms, or without optional dependencies. */
export function loadQuic(): QuicModule | undefined {
  try {
    return createRequire(import.meta.url)('@chainsafe/libp2p-quic-linux-x64-gnu') as QuicModule
  } catch {
    return undefined
  }
}

/** The private key as libp2p writes it: a protobuf of type Ed25519 with seed and public key (its specification "peer ids"). */
export function keyProto({ seed, publicKey }: TunnelCredentials): Uint8Array {
  return Buffer.concat([Buffer.from('08011240', 'hex'), seed, Buffer.from(publicKey, 'hex')])
}

const alphabet = '123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz'
/** An identity hash (00, 36 bytes) of a protobuf (type Ed25519, 32 bytes of key). */
const idPrefix = '002408011220'

/** The Ed25519 key that a peer id holds, in hex; undefined for ids of other keys. */
export function keyInAddress(multiaddr: string): string | undefined {
  const id = /\/p2p\/([1-9A-HJ-NP-Za-km-z]{40,80})$/.exec(multiaddr)?.[1]
  if (id === undefined) return undefined
  let number = 0n
  for (const character of id) number = number * 58n + BigInt(alphabet.indexOf(character))
  // Its first byte is zero, which a number does not show: so many digits it has with it.
  const hex = number.toString(16).padStart(76, '0')
  return hex.length === 76 && hex.startsWith(idPrefix) ? hex.slice(idPrefix.length) : undefined
}
