import type { ByteStream, StreamListener, StreamNetwork } from '../../core/protocol/rpc/byte-stream.ts'

/** Stands between two peers, passes their bytes on, and does to them what a bad network or a bad person would. */
export class WireTap {
  readonly address: string
  /** What clients have sent through, whole. */
  readonly recorded: Uint8Array[] = []
  /** Changes the next bytes that go to the client; takes itself off when it has done its deed. */
  damage: ((bytes: Uint8Array) => boolean) | undefined
  /** What the servers have sent back, whole. */
  readonly answered: Uint8Array[] = []
  /** Puts other bytes in the place of the next ones; takes itself off when it has. */
  replace: ((bytes: Uint8Array, isToServer: boolean) => readonly Uint8Array[] | undefined) | undefined
  readonly #listener: StreamListener
  readonly #pairs = new Set<readonly [ByteStream, ByteStream]>()
  #stalled: Promise<void> | undefined
  #resume: () => void = () => undefined

  private constructor(listener: StreamListener) {
    this.#listener = listener
    this.address = listener.address
  }

  static async open(wire: StreamNetwork, address: string, target: string): Promise<WireTap> {
    let join: (client: ByteStream) => void = () => undefined
    const tap = new WireTap(await wire.listen(address, (client) => join(client)))
    join = (client) => void tap.#join(wire, target, client)
    return tap
  }

  get connectionCount(): number {
    return this.#pairs.size
  }

  /** Nothing goes through any more, in neither direction, and nobody is told. */
  stall(): void {
    this.#stalled = new Promise((resolve) => {
      this.#resume = resolve
    })
  }

  resume(): void {
    this.#stalled = undefined
    this.#resume()
  }

  /** All connections break at once. */
  break(): void {
    for (const pair of this.#pairs) for (const stream of pair) stream.destroy()
    this.#pairs.clear()
    this.resume()
  }

  async close(): Promise<void> {
    await this.#listener.close()
    this.break()
  }

  async #join(wire: StreamNetwork, target: string, client: ByteStream): Promise<void> {
    try {
      const server = await wire.connect(target, new AbortController().signal)
      const pair = [client, server] as const
      this.#pairs.add(pair)
      await Promise.all([this.#pass(client, server, true), this.#pass(server, client, false)])
      this.#pairs.delete(pair)
    } catch {
      client.destroy()
    }
  }

  async #pass(from: ByteStream, to: ByteStream, isToServer: boolean): Promise<void> {
    try {
      for (;;) {
        const read = await from.read()
        while (this.#stalled !== undefined) await this.#stalled
        if (read === undefined) break
        const bytes = Uint8Array.from(read)
        if (isToServer) this.recorded.push(bytes)
        else {
          this.answered.push(Uint8Array.from(bytes))
          if (this.damage?.(bytes) === true) this.damage = undefined
        }
        const others = this.replace?.(bytes, isToServer)
        if (others !== undefined) this.replace = undefined
        await to.write(others ?? [bytes])
      }
      to.end()
    } catch {
      from.destroy()
      to.destroy()
    }
  }
}
