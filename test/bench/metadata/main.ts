// What many objects cost: one page of a listing in a small and in a large bucket, and memory per million objects.
// Usage: npm run bench -- metadata [--objects N] [--chunked N] [--rounds N] [--seconds N]
import { mkdirSync, writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { describeMachine, formatTable, median } from '../machine.ts'
import { applyLoad } from '../s3/load.ts'
import { startPando } from '../s3/pando.ts'
import { presigner } from '../s3/presign.ts'
import { loadObjects } from './bulk-load.ts'

const { values: options } = parseArgs({
  options: {
    objects: { type: 'string', default: '1000000' },
    chunked: { type: 'string', default: '200000' },
    rounds: { type: 'string', default: '5' },
    seconds: { type: 'string', default: '2' },
  },
})
const many = Number(options.objects)
const chunked = Number(options.chunked)
const rounds = Number(options.rounds)
const few = 1000

await using node = await startPando()
const signer = presigner(node, new Date())
for (const bucket of ['small', 'large', 'chunked']) {
  const response = await fetch(`${node.url}${signer.sign('PUT', bucket)}`, { method: 'PUT' })
  if (!response.ok) throw new Error(`${bucket}: ${response.status} ${await response.text()}`)
}

const MiB = 2 ** 20
const memory: { kind: string; objects: number; anonymousBytes: number; perMillionBytes: number }[] = []

/** Memory that the objects cost is what the process itself holds: pages of mapped files are the kernel's to take back. */
async function measureMemory(kind: string, bucket: string, count: number, bodyBytes: number): Promise<void> {
  const before = node.anonymousBytes()
  const began = performance.now()
  await loadObjects(node, bucket, 'folder/key-', count, Buffer.alloc(bodyBytes, 7))
  const seconds = (performance.now() - began) / 1000
  // Garbage of the load itself should not be counted: give the collector a moment of quiet.
  await new Promise((resolve) => setTimeout(resolve, 5000))
  const anonymousBytes = node.anonymousBytes() - before
  memory.push({ kind, objects: count, anonymousBytes, perMillionBytes: (anonymousBytes / count) * 1e6 })
  console.log(
    `loaded ${count} ${kind} objects in ${seconds.toFixed(0)} s (${(count / seconds).toFixed(0)}/s)`,
  )
}

await loadObjects(node, 'small', 'folder/key-', few, Buffer.alloc(1))
await measureMemory('inline (100 B)', 'large', many, 100)

const page = (bucket: string, query: Readonly<Record<string, string>>) => [
  signer.sign('GET', bucket, undefined, { 'list-type': '2', 'max-keys': '1000', ...query }),
]
const middle = `folder/key-${String(Math.floor(many / 2)).padStart(9, '0')}`
const listings = [
  { name: `first page of ${few} keys`, paths: page('small', {}) },
  { name: `first page of ${many} keys`, paths: page('large', {}) },
  { name: 'page from the middle', paths: page('large', { 'start-after': middle }) },
  { name: `one common prefix over ${few} keys`, paths: page('small', { delimiter: '/' }) },
  { name: `one common prefix over ${many} keys`, paths: page('large', { delimiter: '/' }) },
]
const rates = new Map<string, number[]>()
for (let round = 0; round < rounds; round++) {
  for (const { name, paths } of listings) {
    const load = {
      method: 'GET',
      paths,
      bodyBytes: 0,
      connections: 1,
      seconds: Number(options.seconds),
    } as const
    const { requests, seconds } = await applyLoad(node.url, load)
    rates.set(name, [...(rates.get(name) ?? []), requests / seconds])
  }
}
const cost = (at: number) => 1000 / median(rates.get(listings[at]?.name ?? '') ?? [])
const listing = listings.map(({ name }, at) => ({
  name,
  msPerPage: cost(at),
  ratio: cost(at) / cost(at < 3 ? 0 : 3),
}))

await measureMemory('chunked (5000 B)', 'chunked', chunked, 5000)

console.log(
  `\n${formatTable(
    ['listing', 'ms/page', 'ratio (at most 1.5)'],
    listing.map(({ name, msPerPage, ratio }) => [name, msPerPage.toFixed(3), ratio.toFixed(2)]),
  )}\n`,
)
console.log(
  formatTable(
    ['objects', 'count', 'MiB', 'MiB per million'],
    memory.map((row) => [
      row.kind,
      String(row.objects),
      (row.anonymousBytes / MiB).toFixed(0),
      (row.perMillionBytes / MiB).toFixed(0),
    ]),
  ),
)
console.log(`resident at the end: ${(node.residentBytes() / MiB).toFixed(0)} MiB with mapped files`)
mkdirSync('test/bench/results', { recursive: true })
const path = 'test/bench/results/metadata.json'
writeFileSync(path, `${JSON.stringify({ machine: describeMachine(), listing, memory }, null, 2)}\n`)
console.log(`written to ${path}`)
