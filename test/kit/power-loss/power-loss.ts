import { execFileSync } from 'node:child_process'
import { type FileHandle, open, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/**
 * Power loss for real processes, in three steps: start the process with `powerLossEnvironment`, kill it with SIGKILL,
 * call `losePower`. What had not been made durable by then is dropped, kept or torn, sector by sector, as the seed says.
 * See shim.c for how it is observed and for what it cannot see.
 */

const headerBytes = 24
const pageBytes = 4096
const sectorBytes = 512
const kind = { file: 1, page: 2, size: 3, sync: 4, pageSync: 5 } as const

/** Compiles the shim; the caller removes the file. Throws where there is no C compiler. */
export function buildPowerLossShim(source: string): string {
  const library = join(tmpdir(), `pando-power-loss-${process.pid}-${Date.now()}.so`)
  execFileSync('cc', ['-O2', '-Wall', '-shared', '-fPIC', '-o', library, source, '-ldl', '-lpthread'], {
    stdio: ['ignore', 'inherit', 'inherit'],
  })
  return library
}

export function powerLossEnvironment(
  library: string,
  directory: string,
  journal: string,
): Record<string, string> {
  return { LD_PRELOAD: library, POWER_LOSS_DIR: directory, POWER_LOSS_JOURNAL: journal }
}

interface Version {
  /** Number of the record, from 0. */
  readonly record: number
  /** Where the old content stands in the journal (pages), or the old size. */
  readonly value: number
}

interface FileHistory {
  readonly path: string
  readonly pages: Map<number, Version[]>
  sizes: Version[]
}

export interface PowerLossReport {
  readonly files: number
  /** Pages that were not durable when the power went. */
  readonly volatilePages: number
  readonly changedSectors: number
  readonly truncatedFiles: number
}

/**
 * Rewrites the files as a disk might hold them after the power went, and removes the journal.
 * @param random uniform in [0, 1): the seed decides
 */
export async function losePower(journal: string, random: () => number): Promise<PowerLossReport> {
  const log = await open(journal, 'r')
  try {
    const histories = await readJournal(log)
    let volatilePages = 0
    let changedSectors = 0
    let truncatedFiles = 0
    for (const history of histories) {
      if (history.pages.size === 0 && history.sizes.length === 0) continue
      const file = await open(history.path, 'r+').catch(() => undefined)
      if (file === undefined) continue // unlinked since
      try {
        for (const [page, versions] of history.pages) {
          volatilePages++
          changedSectors += await settlePage(log, file, page, versions, random)
        }
        if (history.sizes.length > 0) {
          const candidates = [...history.sizes.map((version) => version.value), (await file.stat()).size]
          const size = candidates[Math.floor(random() * candidates.length)] ?? 0
          if (size < (await file.stat()).size) {
            await file.truncate(size)
            truncatedFiles++
          }
        }
      } finally {
        await file.close()
      }
    }
    return { files: histories.length, volatilePages, changedSectors, truncatedFiles }
  } finally {
    await log.close()
    await rm(journal, { force: true })
  }
}

async function readJournal(log: FileHandle): Promise<FileHistory[]> {
  const histories: FileHistory[] = []
  const header = Buffer.alloc(headerBytes)
  let offset = 0
  for (let record = 0; ; record++) {
    const { bytesRead } = await log.read(header, 0, headerBytes, offset)
    if (bytesRead < headerBytes) return histories // the kill may have cut the last record
    offset += headerBytes
    const type = header.readUInt32LE(0)
    const index = Number(header.readBigUInt64LE(8))
    const value = Number(header.readBigUInt64LE(16))
    if (type === kind.file) {
      const path = Buffer.alloc(value)
      await log.read(path, 0, value, offset)
      histories[header.readUInt32LE(4)] = { path: path.toString(), pages: new Map(), sizes: [] }
      offset += value
      continue
    }
    const history = histories[header.readUInt32LE(4)]
    if (history === undefined) throw new Error('power-loss journal: a record of an unknown file')
    if (type === kind.page) {
      const versions = history.pages.get(index) ?? []
      versions.push({ record, value: offset })
      history.pages.set(index, versions)
      offset += value
    } else if (type === kind.size) {
      history.sizes.push({ record, value: index })
    } else if (type === kind.sync) {
      for (const [page, versions] of history.pages) {
        const left = versions.filter((version) => version.record >= index)
        if (left.length === 0) history.pages.delete(page)
        else history.pages.set(page, left)
      }
      history.sizes = history.sizes.filter((version) => version.record >= index)
    } else if (type === kind.pageSync) {
      for (let page = index; page <= value; page++) history.pages.delete(page)
      history.sizes = []
    } else {
      throw new Error(`power-loss journal: record kind ${type}`)
    }
  }
}

/** Each sector of the page gets one of the versions it held since it was last durable. */
async function settlePage(
  log: FileHandle,
  file: FileHandle,
  page: number,
  versions: readonly Version[],
  random: () => number,
): Promise<number> {
  const current = Buffer.alloc(pageBytes)
  const { bytesRead } = await file.read(current, 0, pageBytes, page * pageBytes)
  const candidates: Buffer[] = []
  for (const version of versions) {
    const old = Buffer.alloc(pageBytes)
    await log.read(old, 0, pageBytes, version.value)
    candidates.push(old)
  }
  // Mostly whole pages are lost or kept, as disks do; one page in eight is torn between sectors.
  const torn = random() < 1 / 8
  let choice = Math.floor(random() * (candidates.length + 1))
  let changed = 0
  for (let sector = 0; sector * sectorBytes < bytesRead; sector++) {
    if (torn) choice = Math.floor(random() * (candidates.length + 1))
    const from = candidates[choice]
    if (from === undefined) continue // the current content reached the disk
    const start = sector * sectorBytes
    const end = Math.min(start + sectorBytes, bytesRead)
    if (from.compare(current, start, end, start, end) === 0) continue
    from.copy(current, start, start, end)
    changed++
  }
  if (changed > 0) await file.write(current, 0, bytesRead, page * pageBytes)
  return changed
}
