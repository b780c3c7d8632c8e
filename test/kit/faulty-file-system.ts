import type { Directory, FileSystem, LogFile } from '../../native/reference/file-system.ts'

const sectorBytes = 512

type Step = 'create' | 'write' | 'sync' | 'truncate' | 'remove' | 'directory-sync' | 'read'

interface Write {
  readonly position: number
  readonly bytes: Buffer
}

/** Bytes that grow; writing costs the length of what is written. */
class Content {
  #bytes: Buffer = Buffer.alloc(4096)
  length = 0

  get view(): Buffer {
    return this.#bytes.subarray(0, this.length)
  }

  resize(length: number): void {
    if (length > this.#bytes.length) {
      const larger = Buffer.alloc(Math.max(length, 2 * this.#bytes.length))
      this.view.copy(larger)
      this.#bytes = larger
    }
    if (length < this.length) this.#bytes.fill(0, length, this.length)
    this.length = length
  }

  write(position: number, bytes: Buffer): void {
    this.resize(Math.max(this.length, position + bytes.length))
    bytes.copy(this.#bytes, position)
  }
}

/** One file: what survives power loss, and the writes and truncations since that may or may not. */
class Inode {
  readonly durable = new Content()
  readonly current = new Content()
  pending: (Write | { readonly length: number })[] = []

  write(position: number, bytes: Buffer): void {
    this.current.write(position, bytes)
    this.pending.push({ position, bytes })
  }

  truncate(length: number): void {
    this.current.resize(length)
    this.pending.push({ length })
  }

  sync(): void {
    for (const change of this.pending) {
      if ('length' in change) this.durable.resize(change.length)
      else this.durable.write(change.position, change.bytes)
    }
    this.pending = []
  }
}

/**
 * A disk in memory with volatile caches, for one directory: power loss keeps any subset of the sectors that were not
 * synced, a created or removed name counts only once its directory was synced, and steps fail when told to.
 */
export class FaultyFileSystem implements FileSystem {
  /** Runs before each step; what it throws is the step's failure. */
  beforeStep: (step: Step, name: string) => void = () => {}
  readonly #random: () => number
  #names = new Map<string, Inode>()
  #durableNames = new Map<string, Inode>()
  #owner: object | undefined

  constructor(random: () => number) {
    this.#random = random
  }

  /** Content for tests to look at and to damage. */
  file(name: string): Buffer {
    const inode = this.#names.get(name)
    if (!inode) throw new Error(`no file is called ${name}`)
    return inode.current.view
  }

  names(): string[] {
    return [...this.#names.keys()].sort()
  }

  /** Loses power: whoever had files open has them no more, and gets errors. */
  crash(): void {
    this.#owner = undefined
    this.#names = new Map()
    for (const [name, inode] of this.#durableNames) {
      const survivor = new Inode()
      const { view } = this.#surviving(inode)
      survivor.durable.write(0, view)
      survivor.current.write(0, view)
      this.#names.set(name, survivor)
    }
    this.#durableNames = new Map(this.#names)
  }

  #surviving(inode: Inode): Content {
    const content = inode.durable
    for (const change of inode.pending) {
      if ('length' in change) {
        if (this.#random() < 0.5) content.resize(change.length)
        continue
      }
      // The size may have been journalled although the data was not: the rest is zeros then.
      const end = change.position + change.bytes.length
      if (this.#random() < 0.3) content.resize(Math.max(content.length, end))
      const fate = this.#random()
      const share = fate < 0.3 ? 0 : fate < 0.5 ? 1 : this.#random()
      let at = change.position
      while (at < end) {
        const next = Math.min(end, (Math.floor(at / sectorBytes) + 1) * sectorBytes)
        const sector = change.bytes.subarray(at - change.position, next - change.position)
        if (this.#random() < share) content.write(at, sector)
        at = next
      }
    }
    return content
  }

  async openDirectory(): Promise<Directory> {
    if (this.#owner) throw new Error('the directory is open already')
    const owner = {}
    this.#owner = owner
    const step = async (kind: Step, name: string): Promise<void> => {
      await new Promise<void>((resolve) => setImmediate(resolve))
      if (this.#owner !== owner) throw Object.assign(new Error('the power is gone'), { code: 'EIO' })
      this.beforeStep(kind, name)
    }
    const opened = (name: string, inode: Inode): LogFile => ({
      size: async () => inode.current.length,
      read: async (target, position) => {
        await step('read', name)
        return inode.current.view.copy(target, 0, position)
      },
      write: async (pieces, position) => {
        const bytes = Buffer.concat(pieces)
        try {
          await step('write', name)
        } catch (reason) {
          // A failed write may have written some of it.
          if (this.#owner === owner)
            inode.write(position, bytes.subarray(0, Math.floor(bytes.length * this.#random())))
          throw reason
        }
        inode.write(position, bytes)
      },
      sync: async () => {
        await step('sync', name)
        inode.sync()
      },
      truncate: async (length) => {
        await step('truncate', name)
        inode.truncate(length)
      },
      close: async () => {},
    })
    return {
      list: async () => this.names(),
      create: async (name) => {
        await step('create', name)
        const inode = new Inode()
        this.#names.set(name, inode)
        return opened(name, inode)
      },
      open: async (name) => {
        const inode = this.#names.get(name)
        if (!inode) throw Object.assign(new Error(`no ${name}`), { code: 'ENOENT' })
        return opened(name, inode)
      },
      remove: async (name) => {
        await step('remove', name)
        this.#names.delete(name)
      },
      sync: async () => {
        await step('directory-sync', '')
        this.#durableNames = new Map(this.#names)
      },
      freeBytes: async () => 1024 * 1024 * 1024,
      close: async () => {
        if (this.#owner === owner) this.#owner = undefined
      },
    }
  }
}

/** Numbers in [0, 1) that a seed makes again (Mulberry32). */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 0x1_0000_0000
  }
}
