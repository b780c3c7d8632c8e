import type { Randomness } from '../../contract/clock.ts'
import { StorageError } from '../../contract/errors.ts'
import type { NodeIdentity, PeerIdentity } from '../../contract/transport.ts'
import {
  type Crc32c,
  type FrameHeader,
  flags,
  frame,
  hasPayload,
  isAnswer,
  largestHello,
  largestPayload,
  ops,
  ProtocolViolation,
  protocolVersion,
  reasonName,
  reasons,
} from './frame.ts'
import type { FrameReader } from './frame-reader.ts'
import type { FrameWriter } from './frame-writer.ts'
import {
  challengeBytes,
  decodeIntroduction,
  decodeOpening,
  encodeIntroduction,
  encodeOpening,
  type Introduction,
  isProved,
  nonceBytes,
  openingBytes,
  prove,
} from './hello.ts'
import {
  beginExchange,
  chooseCipher,
  deriveSealSecrets,
  type EncryptMode,
  exchangeBytes,
  Opener,
  ownCiphers,
  Sealer,
} from './seal.ts'

export interface GreetingParts {
  readonly reader: FrameReader
  readonly writer: FrameWriter
  readonly crc32c: Crc32c
  readonly identity: NodeIdentity
  readonly randomness: Randomness
  /** What this side speaks; version 1 alone unless told (a test plays older and newer ones). */
  readonly versions?: { readonly lowest: number; readonly highest: number }
  /** off unless told. */
  readonly encrypt?: EncryptMode
}

export interface Greeted {
  readonly peer: PeerIdentity
  /** The other side's step 3 or 4: its credits, its keep-alive time. */
  readonly introduction: Introduction
}

const ownVersions = { lowest: protocolVersion, highest: protocolVersion }

/** Steps 1 to 4 as the client. PEER_REFUSED whenever the other side does not prove itself or does not want us. */
export async function greetAsClient(
  parts: GreetingParts & { readonly keepAliveMs: number; readonly peerNodeId: Uint8Array | undefined },
): Promise<Greeted> {
  const { identity, randomness, versions = ownVersions, encrypt = 'off' } = parts
  const exchange = encrypt === 'off' ? undefined : beginExchange(randomness)
  const opening = encodeOpening({
    nonce: randomness.fill(new Uint8Array(nonceBytes)),
    lowestVersion: versions.lowest,
    highestVersion: versions.highest,
    ...(exchange === undefined ? {} : { exchange: exchange.publicKey }),
  })
  await say(parts, 1, opening)
  const challenge = await hear(parts, 2, 'PEER_REFUSED')
  if (challenge.length < challengeBytes) throw refused('its challenge is too short')
  const theirs = exchangeIn(challenge, challengeBytes)
  const shared = theirs === undefined ? undefined : exchange?.agree(theirs)
  const own = encodeIntroduction({
    ...ownIntroduction(identity, versions),
    capabilities: shared === undefined ? 0 : ownCiphers,
    keepAliveMs: parts.keepAliveMs,
  })
  const steps: Uint8Array[] = [opening, challenge, own]
  prove('client', identity.regionKey, steps)
  await say(parts, 3, own)
  const answer = await hear(parts, 4, 'PEER_REFUSED')
  steps.push(answer)
  if (!isProved('server', identity.regionKey, steps))
    throw refused("what answered does not know this region's key")
  const introduction = decodeIntroduction(answer)
  if (introduction.refusal !== 0) {
    throw refused(`the peer refused: ${whyRefused(introduction.refusal, introduction, versions)}`)
  }
  const { chosenVersion } = introduction
  if (chosenVersion < versions.lowest || chosenVersion > versions.highest) {
    throw refused(`it chose version ${chosenVersion}`)
  }
  if (!isSame(introduction.regionId, identity.regionId)) {
    throw refused(whyRefused(reasons.wrongRegion, introduction, versions))
  }
  if (parts.peerNodeId !== undefined && !isSame(introduction.nodeId, parts.peerNodeId)) {
    throw refused('another node is at this address')
  }
  if (introduction.requestCredits < 1 || introduction.byteCredits < largestPayload) {
    throw refused('it grants less than one chunk')
  }
  const cipher = shared === undefined ? 0 : chooseCipher(ownCiphers, introduction.capabilities)
  if (encrypt === 'required' && cipher === 0) {
    throw refused(whyRefused(reasons.notSealed, introduction, versions))
  }
  seal(parts, 'client', cipher, shared, steps)
  return { peer: peerOf(introduction, chosenVersion, cipher), introduction }
}

export interface ServerGreetingParts extends GreetingParts {
  readonly requestCredits: number
  readonly byteCredits: number
  /** Asked once the peer has proved itself. */
  readonly hasRoom: () => boolean
}

/** Steps 1 to 4 as the server. Rejects when there is no session; what the peer may know of it has been sent by then. */
export async function greetAsServer(parts: ServerGreetingParts): Promise<Greeted> {
  const { identity, randomness, versions = ownVersions, encrypt = 'off' } = parts
  const opening = await hear(parts, 1, 'PEER_UNREACHABLE')
  const { lowestVersion, highestVersion } = decodeOpening(opening)
  const theirs = encrypt === 'off' ? undefined : exchangeIn(opening, openingBytes)
  const exchange = theirs === undefined ? undefined : beginExchange(randomness)
  const shared = theirs === undefined ? undefined : exchange?.agree(theirs)
  const challenge = Buffer.concat([
    randomness.fill(new Uint8Array(challengeBytes)),
    exchange?.publicKey ?? new Uint8Array(),
  ])
  await say(parts, 2, challenge)
  const introduced = await hear(parts, 3, 'PEER_UNREACHABLE')
  const steps: Uint8Array[] = [opening, challenge, introduced]
  if (!isProved('client', identity.regionKey, steps))
    throw refused("a stranger, who does not know this region's key")
  const introduction = decodeIntroduction(introduced)
  const version = Math.min(highestVersion, versions.highest)
  const cipher = shared === undefined ? 0 : chooseCipher(ownCiphers, introduction.capabilities)
  const refusal =
    version < Math.max(lowestVersion, versions.lowest)
      ? reasons.badVersion
      : !isSame(introduction.regionId, identity.regionId)
        ? reasons.wrongRegion
        : encrypt === 'required' && cipher === 0
          ? reasons.notSealed
          : !parts.hasRoom()
            ? reasons.tooManySessions
            : 0
  const answer = encodeIntroduction({
    ...ownIntroduction(identity, versions),
    capabilities: shared === undefined ? 0 : ownCiphers,
    requestCredits: parts.requestCredits,
    byteCredits: parts.byteCredits,
    chosenVersion: refusal === 0 ? version : 0,
    refusal,
  })
  steps.push(answer)
  prove('server', identity.regionKey, steps)
  await say(parts, 4, answer)
  if (refusal !== 0) {
    const node = Buffer.from(introduction.nodeId).toString('hex')
    throw refused(`node ${node}: ${whyRefused(refusal, introduction, versions)}`)
  }
  seal(parts, 'server', cipher, shared, steps)
  return { peer: peerOf(introduction, version, cipher), introduction }
}

/** A side's half of the key exchange behind what else its step tells; undefined when it sent none. */
function exchangeIn(step: Uint8Array, at: number): Uint8Array | undefined {
  return step.length < at + exchangeBytes ? undefined : step.subarray(at, at + exchangeBytes)
}

/** The greeting is over: what follows in either direction is sealed, when both want it. */
function seal(
  { reader, writer, identity }: GreetingParts,
  role: 'client' | 'server',
  cipher: number,
  shared: Uint8Array | undefined,
  steps: readonly Uint8Array[],
): void {
  if (cipher === 0 || shared === undefined) return
  const secrets = deriveSealSecrets(cipher, shared, steps, identity.regionKey)
  writer.seal(new Sealer(cipher, secrets[role]))
  reader.open(new Opener(cipher, secrets[role === 'client' ? 'server' : 'client']))
}

function ownIntroduction(
  { nodeId, regionId, mapEpoch }: NodeIdentity,
  versions: { readonly lowest: number; readonly highest: number },
): Introduction {
  return {
    nodeId,
    regionId,
    mapEpoch,
    capabilities: 0,
    largestPayload,
    requestCredits: 0,
    byteCredits: 0,
    keepAliveMs: 0,
    chosenVersion: 0,
    lowestVersion: versions.lowest,
    highestVersion: versions.highest,
    refusal: 0,
  }
}

const peerOf = (
  { nodeId, regionId, mapEpoch }: Introduction,
  version: number,
  capabilities: number,
): PeerIdentity => ({
  nodeId,
  regionId,
  mapEpoch,
  protocolVersion: version,
  capabilities,
})

async function say({ writer, crc32c }: GreetingParts, step: number, payload: Uint8Array): Promise<void> {
  const header = frame({
    op: ops.hello,
    flags: flags.payload,
    offset: step,
    length: payload.length,
    payloadCrc: crc32c(payload),
  })
  await writer.send(header, payload)
}

/** A client that is hung up on has been refused; a server only has no client any more. */
async function hear(
  { reader, crc32c }: GreetingParts,
  step: number,
  whenGone: 'PEER_REFUSED' | 'PEER_UNREACHABLE',
): Promise<Buffer> {
  const header = await reader.header()
  if (header === undefined) throw new StorageError(whenGone, hungUp)
  if (!isGreeting(header) || header.offset !== step) {
    throw new ProtocolViolation(reasons.badOrder, 'something else than the greeting')
  }
  if (header.length > largestHello) throw new ProtocolViolation(reasons.badLength, 'the greeting is too long')
  const payload = Buffer.alloc(header.length)
  await reader.payload(payload)
  if (crc32c(payload) !== header.payloadCrc) {
    throw new ProtocolViolation(reasons.damaged, 'the greeting was damaged')
  }
  return payload
}

const isGreeting = (header: FrameHeader): boolean =>
  header.op === ops.hello && hasPayload(header) && !isAnswer(header) && header.requestId === 0

const hungUp =
  'the peer hung up during the greeting: it has another region key, is just stopping, or is no node'

/** Why two nodes that both know the key have no session; `other` is the one spoken of. */
function whyRefused(
  reason: number,
  other: Introduction,
  own: { readonly lowest: number; readonly highest: number },
): string {
  if (reason === reasons.badVersion) {
    const theirs = range(other.lowestVersion, other.highestVersion)
    return `it speaks version ${theirs} of the protocol, this node ${range(own.lowest, own.highest)}`
  }
  if (reason === reasons.notSealed) {
    return 'one of the two nodes requires encrypted frames (rpc.encrypt), and the other sends none'
  }
  if (reason === reasons.wrongRegion) return 'it belongs to another region, though it has our key'
  return reasonName(reason)
}

const range = (least: number, most: number): string => (least === most ? `${least}` : `${least} to ${most}`)

const refused = (why: string): StorageError => new StorageError('PEER_REFUSED', why)

/** Ids are no secrets; proofs are compared elsewhere, in constant time. */
const isSame = (left: Uint8Array, right: Uint8Array): boolean => Buffer.compare(left, right) === 0
