import type { TestContext } from 'node:test'
import type {
  TunnelBackend,
  TunnelCredentials,
  TunnelReader,
  TunnelSession,
  TunnelStream,
  TunnelWriter,
} from '../../core/contract/tunnel.ts'

/** Whoever has the keys of two regions and the way between them: ends their tunnels, passes everything on, and sees it. */
export interface TunnelMiddlebox {
  /** All that the streams of both directions carried. */
  seen(): Buffer
  /** What each stream that region 2 opened carried towards region 1. */
  questions(): readonly Buffer[]
  /** Called with every piece: what it returns is passed on. */
  tamper: (bytes: Uint8Array, towards: 1 | 2) => Uint8Array
  /** Both tunnels end; region 2 dials again. */
  cut(): void
  /** Tunnels towards region 1 that there were. */
  tunnels(): number
  /** A stream to region 1 in the name of region 2, once that has come. */
  open(): Promise<TunnelStream>
}

export interface MiddleboxParts {
  /** Where region 2 is told to dial region 1. */
  readonly port: number
  readonly portOfOne: number
  readonly one: TunnelCredentials
  readonly two: TunnelCredentials
}

/** Region 2 dials it for region 1. */
export async function openMiddlebox(
  t: TestContext,
  backend: TunnelBackend,
  { port, one, two, portOfOne }: MiddleboxParts,
): Promise<TunnelMiddlebox> {
  const pieces: Uint8Array[] = []
  const questions: Uint8Array[][] = []
  let towardsOne: TunnelSession | undefined
  let cut: () => void = () => undefined
  let tunnels = 0
  const box: { tamper: TunnelMiddlebox['tamper'] } = { tamper: (bytes) => bytes }

  const pump = async (from: TunnelReader, to: TunnelWriter, towards: 1 | 2): Promise<void> => {
    const question: Uint8Array[] = []
    if (towards === 1) questions.push(question)
    try {
      for (let next = await from.read(); !next.done; next = await from.read()) {
        pieces.push(next.value.slice())
        question.push(next.value.slice())
        await to.write(box.tamper(next.value, towards))
      }
      await to.close()
    } catch {
      await to.abort().catch(() => undefined)
      await from.cancel().catch(() => undefined)
    }
  }
  const join = async (from: TunnelSession, to: TunnelSession, towards: 1 | 2): Promise<void> => {
    for await (const near of from.incomingBidirectionalStreams) {
      const far = await to.createBidirectionalStream()
      void pump(near.readable, far.writable, towards)
      void pump(far.readable, near.writable, towards === 1 ? 2 : 1)
    }
    to.close()
  }
  const listener = await backend.listen({
    address: { host: '127.0.0.1', port },
    credentials: () => one,
    admit: (publicKey) => ({ regionId: 2, publicKey }),
    async onSession(near) {
      const far = await backend.dial({
        address: { host: '127.0.0.1', port: portOfOne },
        credentials: two,
        expect: { regionId: 1, publicKeys: [one.publicKey] },
        signal: AbortSignal.timeout(10_000),
      })
      towardsOne = far
      tunnels++
      cut = () => {
        near.close()
        far.close()
      }
      t.after(() => {
        near.close()
        far.close()
      })
      join(near, far, 1).catch(() => near.close())
      join(far, near, 2).catch(() => far.close())
    },
  })
  t.after(() => listener.close())
  return Object.assign(box, {
    seen: () => Buffer.concat(pieces),
    questions: () => questions.map((each) => Buffer.concat(each)),
    cut: () => cut(),
    tunnels: () => tunnels,
    async open() {
      if (towardsOne === undefined) throw new Error('nobody has dialed')
      return towardsOne.createBidirectionalStream()
    },
  })
}
