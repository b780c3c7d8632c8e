/** One entry of an initial file system: a folder where `body` is absent. */
export interface CpioEntry {
  readonly path: string
  readonly mode: number
  readonly body?: Uint8Array
}

const folderType = 0o040000
const fileType = 0o100000
const blockBytes = 4

/**
 * A `newc` cpio archive, the form in which Linux takes an initial file system (kernel documentation,
 * driver-api/early-userspace/buffer-format). Folders must stand before what lies in them.
 */
export function packCpio(entries: readonly CpioEntry[]): Buffer {
  const pieces = entries.map((entry, index) => packEntry(entry, index + 1))
  return Buffer.concat([...pieces, packEntry({ path: 'TRAILER!!!', mode: 0, body: new Uint8Array(0) }, 0)])
}

function packEntry({ path, mode, body }: CpioEntry, inode: number): Buffer {
  const name = Buffer.from(`${path}\0`)
  const type = inode === 0 ? 0 : body === undefined ? folderType : fileType
  const length = body?.byteLength ?? 0
  // inode, mode, uid, gid, links, mtime, size, device, special device (major and minor each), name's length, checksum
  const fields = [inode, type | mode, 0, 0, 1, 0, length, 0, 0, 0, 0, name.length, 0]
  const header = `070701${fields.map((value) => value.toString(16).padStart(8, '0')).join('')}`
  return Buffer.concat([
    padded(Buffer.concat([Buffer.from(header), name])),
    padded(Buffer.from(body ?? new Uint8Array(0))),
  ])
}

function padded(bytes: Buffer): Buffer {
  return Buffer.concat([bytes, Buffer.alloc((blockBytes - (bytes.length % blockBytes)) % blockBytes)])
}
