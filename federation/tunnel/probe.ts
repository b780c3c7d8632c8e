import type { Clock } from '../../core/contract/clock.ts'
import type { TunnelSession, TunnelStream } from '../../core/contract/tunnel.ts'
import { giveUp, openTopic } from './topics.ts'

/** A stream of this topic is filled by the other side until it is given up: what comes through tells how wide the way is. */
export const probeTopic = 'probe'

/** What one probe may cost its answerer. */
const mostBytes = 32 * 1024 * 1024
const mostMs = 3_000
const pieceBytes = 64 * 1024
/** How long it is read, and how much of that does not count: a way begins slowly. */
const readMs = 800
const warmMs = 250

export async function answerProbe({ writable }: TunnelStream, clock: Clock): Promise<void> {
  const until = clock.monotonic() + mostMs
  const piece = new Uint8Array(pieceBytes)
  try {
    for (let sent = 0; sent < mostBytes && clock.monotonic() < until; sent += pieceBytes) {
      await writable.write(piece)
    }
    await writable.close()
  } catch {
    // Who asked has seen enough.
  }
}

/** Bytes a second that come over all of these sessions together. Rejects with the reason of the signal when nothing came until then. */
export async function measureGoodput(
  sessions: readonly TunnelSession[],
  clock: Clock,
  signal: AbortSignal,
): Promise<number> {
  signal.throwIfAborted()
  const streams = await Promise.all(sessions.map((session) => openTopic(session, probeTopic, signal)))
  let bytes = 0
  let isOver = false
  const drain = async ({ readable }: TunnelStream): Promise<void> => {
    for (let next = await readable.read(); !next.done && !isOver; next = await readable.read()) {
      bytes += next.value.length
    }
  }
  for (const stream of streams) drain(stream).catch(() => undefined)
  try {
    // From the first byte on: until then it is the round trip that is measured.
    while (bytes === 0) await clock.sleep(10, signal)
    await clock.sleep(warmMs, signal).catch(() => undefined)
    const before = signal.aborted ? 0 : bytes
    const beganMs = clock.monotonic() - (signal.aborted ? warmMs : 0)
    // A way that is so narrow that its time is over has shown what it carries.
    await clock.sleep(readMs - warmMs, signal).catch(() => undefined)
    return ((bytes - before) / Math.max(1, clock.monotonic() - beganMs)) * 1000
  } finally {
    isOver = true
    for (const stream of streams) void giveUp(stream, 'seen enough')
  }
}
