import { createHmac, timingSafeEqual } from 'node:crypto'
import { largestPayload, ProtocolViolation, reasons } from './frame.ts'

/** The greeting of native/RPC.md: payloads and proofs. */

export const nonceBytes = 32
export const proofBytes = 32
export const openingBytes = 40
export const challengeBytes = 32
export const introductionBytes = 104
export const regionKeyBytes = 32

export interface Opening {
  readonly nonce: Uint8Array
  readonly lowestVersion: number
  readonly highestVersion: number
  /** The client's half of a key exchange, when it would seal frames. */
  readonly exchange?: Uint8Array
}

/** Step 3 or 4: who a side is and what it takes. */
export interface Introduction {
  readonly nodeId: Uint8Array
  readonly regionId: Uint8Array
  readonly mapEpoch: number
  /** The low 32 bits of the field; none of the others exists yet. */
  readonly capabilities: number
  readonly largestPayload: number
  readonly requestCredits: number
  readonly byteCredits: number
  readonly keepAliveMs: number
  readonly chosenVersion: number
  readonly lowestVersion: number
  readonly highestVersion: number
  readonly refusal: number
}

export function encodeOpening({ nonce, lowestVersion, highestVersion, exchange }: Opening): Buffer {
  const bytes = Buffer.alloc(openingBytes + (exchange?.length ?? 0))
  bytes.set(nonce)
  bytes[32] = lowestVersion
  bytes[33] = highestVersion
  if (exchange !== undefined) bytes.set(exchange, openingBytes)
  return bytes
}

export function decodeOpening(bytes: Buffer): Opening {
  if (bytes.length < openingBytes) throw new ProtocolViolation(reasons.badLength, 'the opening is too short')
  return {
    nonce: Uint8Array.from(bytes.subarray(0, nonceBytes)),
    lowestVersion: bytes[32] ?? 0,
    highestVersion: bytes[33] ?? 0,
  }
}

/** With a proof of zeros: `prove` puts it in. */
export function encodeIntroduction(side: Introduction): Buffer {
  const bytes = Buffer.alloc(introductionBytes)
  bytes.set(side.nodeId, 32)
  bytes.set(side.regionId, 48)
  bytes.writeBigUInt64LE(BigInt(side.mapEpoch), 64)
  bytes.writeUInt32LE(side.capabilities >>> 0, 72)
  bytes.writeUInt32LE(side.largestPayload, 80)
  bytes.writeUInt32LE(side.requestCredits, 84)
  bytes.writeUInt32LE(side.byteCredits, 88)
  bytes.writeUInt32LE(side.keepAliveMs, 92)
  bytes[96] = side.chosenVersion
  bytes[97] = side.lowestVersion
  bytes[98] = side.highestVersion
  bytes.writeUInt32LE(side.refusal, 100)
  return bytes
}

export function decodeIntroduction(bytes: Buffer): Introduction {
  if (bytes.length < introductionBytes) {
    throw new ProtocolViolation(reasons.badLength, 'the introduction is too short')
  }
  const side = {
    nodeId: Uint8Array.from(bytes.subarray(32, 48)),
    regionId: Uint8Array.from(bytes.subarray(48, 64)),
    // An epoch beyond 2^53 is none that a map can have reached.
    mapEpoch: Number(bytes.readBigUInt64LE(64)),
    capabilities: bytes.readUInt32LE(72),
    largestPayload: bytes.readUInt32LE(80),
    requestCredits: bytes.readUInt32LE(84),
    byteCredits: bytes.readUInt32LE(88),
    keepAliveMs: bytes.readUInt32LE(92),
    chosenVersion: bytes[96] ?? 0,
    lowestVersion: bytes[97] ?? 0,
    highestVersion: bytes[98] ?? 0,
    refusal: bytes.readUInt32LE(100),
  }
  if (side.refusal === 0 && side.largestPayload < largestPayload) {
    throw new ProtocolViolation(reasons.badLength, 'the peer does not take a whole chunk')
  }
  return side
}

export type Role = 'client' | 'server'

/** Over everything said so far, `steps` last the one that carries it; its own proof counts as zeros. */
export function proofOf(role: Role, key: Uint8Array, steps: readonly Uint8Array[]): Buffer {
  const hmac = createHmac('sha256', key).update(`pando-rpc/1 ${role}\0`)
  for (const [index, step] of steps.entries()) {
    const length = Buffer.alloc(4)
    length.writeUInt32LE(step.length)
    hmac.update(length)
    if (index === steps.length - 1) hmac.update(noProof).update(step.subarray(proofBytes))
    else hmac.update(step)
  }
  return hmac.digest()
}

const noProof = new Uint8Array(proofBytes)

/** Puts the proof into the last step. */
export function prove(role: Role, key: Uint8Array, steps: readonly Uint8Array[]): void {
  steps.at(-1)?.set(proofOf(role, key, steps))
}

/** In constant time. */
export function isProved(role: Role, key: Uint8Array, steps: readonly Uint8Array[]): boolean {
  const last = steps.at(-1)
  if (last === undefined || last.length < introductionBytes) return false
  return timingSafeEqual(proofOf(role, key, steps), last.subarray(0, proofBytes))
}
