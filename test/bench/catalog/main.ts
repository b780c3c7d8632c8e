// The catalog alone, without HTTP and chunk store: durable inline puts against bare fdatasync, reads, and listings of a small and a
// large bucket. Usage: npm run bench -- catalog [--objects N] [--rounds N] [--seconds N]
import {
  closeSync,
  fdatasyncSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { type EmbeddedCatalog, openCatalog } from '../../../core/catalog/catalog.ts'
import { createDirectCatalog } from '../../../core/catalog/direct-catalog.ts'
import { LmdbTables } from '../../../core/catalog/lmdb-tables.ts'
import { applyEntries } from '../../../core/catalog/state-machine.ts'
import { createWriteRegistry } from '../../../core/catalog/write-registry.ts'
import {
  chunkedObject,
  etagOf,
  extentOf,
  inlineObject,
  putCommand,
  realEnvironment,
} from '../../kit/catalog-commands.ts'
import { describeMachine, formatTable, median } from '../machine.ts'

const { values: options } = parseArgs({
  options: {
    objects: { type: 'string', default: '1000000' },
    rounds: { type: 'string', default: '5' },
    seconds: { type: 'string', default: '1' },
  },
})
const many = Number(options.objects)
const few = Math.min(1000, many)
const rounds = Number(options.rounds)
const runMs = Number(options.seconds) * 1000
const pageKeys = 1000
const MiB = 2 ** 20

const root = mkdtempSync(join(process.env['PANDO_BENCH_DIR'] ?? tmpdir(), 'pando-catalog-bench-'))
const registry = createWriteRegistry(realEnvironment)
const keyOf = (index: number): string => `photos/2026/${String(index).padStart(9, '0')}.jpg`

/** What one waiter without group commit would get: 4 KiB appended and synced, again and again. */
function syncsPerSecond(): number {
  const descriptor = openSync(join(root, 'baseline'), 'w')
  const block = Buffer.alloc(4096, 7)
  const began = performance.now()
  let count = 0
  while (performance.now() - began < runMs) {
    writeSync(descriptor, block)
    fdatasyncSync(descriptor)
    count++
  }
  closeSync(descriptor)
  return (count * 1000) / (performance.now() - began)
}

let lastPut = 0
async function putsPerSecond(
  catalog: EmbeddedCatalog,
  bucketId: number,
  concurrency: number,
): Promise<number> {
  const body = new Uint8Array(4096).fill(7)
  const began = performance.now()
  let count = 0
  await Promise.all(
    Array.from({ length: concurrency }, async () => {
      while (performance.now() - began < runMs) {
        const object = inlineObject(registry.begin(), body, etagOf(++lastPut))
        await catalog.submit(putCommand(bucketId, keyOf(lastPut), object))
        count++
      }
    }),
  )
  return (count * 1000) / (performance.now() - began)
}

/** Per second of this thread's processor time: other load on the machine does not count. */
function perCpuSecond(work: () => number): number {
  const began = performance.now()
  const before = process.cpuUsage()
  let count = 0
  while (performance.now() - began < runMs) count += work()
  const { user, system } = process.cpuUsage(before)
  return (count * 1e6) / (user + system)
}

/** What the process itself holds, once its own garbage is gone; pages of the mapped file are the kernel's to take back. */
function anonymousBytes(): number {
  setFlagsFromString('--expose-gc')
  runInNewContext('gc()')
  const kib = /^RssAnon:\s+(\d+)/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1]
  return Number(kib) * 1024
}

const rows: string[][] = []
const json: Record<string, unknown> = { machine: describeMachine(), objects: many, rounds }

try {
  const putDirectory = join(root, 'puts')
  const catalog = await openCatalog({
    directory: putDirectory,
    environment: realEnvironment,
    regionId: 1,
    inlineBytes: 4096,
  })
  const { id: bucketId } = await catalog.submit({ type: 'create-bucket', name: 'bench', owner: 'root' })
  const concurrencies = [1, 16, 64, 256]
  const measured = new Map<string, number[]>()
  const note = (name: string, value: number): void => {
    measured.set(name, [...(measured.get(name) ?? []), value])
  }
  for (let round = 0; round < rounds; round++) {
    note('fdatasync', syncsPerSecond())
    for (const concurrency of concurrencies) {
      note(`puts at ${concurrency}`, await putsPerSecond(catalog, bucketId, concurrency))
    }
  }
  await catalog.close()
  const of = (name: string): number => median(measured.get(name) ?? [])
  const baseline = of('fdatasync')
  rows.push(['4 KiB write + fdatasync, one after the other', `${baseline.toFixed(0)}/s`, '1.00'])
  for (const concurrency of concurrencies) {
    const rate = of(`puts at ${concurrency}`)
    rows.push([
      `durable 4 KiB inline put, ${concurrency} at once`,
      `${rate.toFixed(0)}/s`,
      (rate / baseline).toFixed(2),
    ])
  }

  const tables = new LmdbTables({ directory: join(root, 'lists') })
  const direct = createDirectCatalog({ tables, environment: realEnvironment, regionId: 1 })
  const small = direct.run({ type: 'create-bucket', name: 'small', owner: 'root' }).id
  const large = direct.run({ type: 'create-bucket', name: 'large', owner: 'root' }).id
  const load = (bucket: number, count: number): void => {
    for (let start = 0; start < count; start += 5000) {
      const entries = Array.from({ length: Math.min(5000, count - start) }, (_, index) => {
        const writeId = registry.begin()
        registry.settle(writeId)
        const object = chunkedObject(extentOf(writeId, 100_000, 4 * MiB), etagOf(start + index))
        return direct.propose(putCommand(bucket, keyOf(start + index), object))
      })
      tables.transact((writer) => applyEntries(writer, entries, { retainEntries: 0 }))
    }
  }
  load(small, few)
  const memoryBefore = anonymousBytes()
  const diskBefore = tables.bytesOnDisk()
  const cpuBefore = process.cpuUsage()
  load(large, many)
  const { user, system } = process.cpuUsage(cpuBefore)
  const diskPerMillion = ((tables.bytesOnDisk() - diskBefore) / many) * 1e6
  const memoryPerMillion = (Math.max(0, anonymousBytes() - memoryBefore) / many) * 1e6

  const middle = keyOf(Math.floor(many / 2))
  const page = (bucket: number, after: string) => () =>
    direct.listObjects(bucket, { prefix: 'photos/2026/', delimiter: '/', after, limit: pageKeys }).objects
      .length / pageKeys
  const reads: [string, () => number][] = [
    [`list ${few} keys`, page(small, '')],
    [`list, first page of ${many} keys`, page(large, '')],
    [`list, middle page of ${many} keys`, page(large, middle)],
    [
      `one common prefix over ${many} keys`,
      () =>
        direct.listObjects(large, { prefix: '', delimiter: '/', after: '', limit: pageKeys }).commonPrefixes
          .length,
    ],
    [
      `get one of ${many} records`,
      () => (direct.object(large, keyOf(Math.floor(Math.random() * many))) === undefined ? 0 : 1),
    ],
  ]
  for (let round = 0; round < rounds; round++)
    for (const [name, work] of reads) note(name, perCpuSecond(work))
  const smallPages = of(reads[0]?.[0] ?? '')
  for (const [index, [name]] of reads.entries()) {
    const rate = of(name)
    rows.push([name, `${rate.toFixed(0)}/cpu s`, index < 3 ? (rate / smallPages).toFixed(2) : ''])
  }
  rows.push([`load of ${many} records`, `${((many * 1e6) / (user + system)).toFixed(0)}/cpu s`, ''])
  rows.push(['disk for a million objects', `${(diskPerMillion / MiB).toFixed(0)} MiB`, ''])
  rows.push(['memory for a million objects', `${(memoryPerMillion / MiB).toFixed(0)} MiB`, ''])
  await tables.close()

  console.log(formatTable(['what', 'median', 'ratio'], rows))
  json['rates'] = Object.fromEntries([...measured.keys()].map((name) => [name, of(name)]))
  json['diskBytesPerMillion'] = diskPerMillion
  json['memoryBytesPerMillion'] = memoryPerMillion
  mkdirSync('test/bench/results', { recursive: true })
  writeFileSync('test/bench/results/catalog.json', `${JSON.stringify(json, undefined, 2)}\n`)
} finally {
  rmSync(root, { recursive: true, force: true })
}
