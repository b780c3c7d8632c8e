import { writeSync } from 'node:fs'
import { openCatalog } from '../../core/catalog/catalog.ts'
import { createWriteRegistry } from '../../core/catalog/write-registry.ts'
import { inlineObject, putCommand, realEnvironment } from '../kit/catalog-commands.ts'
import { crashBody, crashEtag, crashWriters, isDelete, keysPerWriter } from './catalog-crash-load.ts'

/**
 * The process that is killed: writers that put and delete, each on keys of its own, and say on standard output what they try
 * and what was acknowledged before they go on. `node catalog-crash-writer.js <directory> <first number>`
 */
const [directory = '', first = '1'] = process.argv.slice(2)
const catalog = await openCatalog({
  directory,
  environment: realEnvironment,
  regionId: 1,
  inlineBytes: 4096,
  retainEntries: 1e9,
})
const registry = createWriteRegistry(realEnvironment)
const bucket =
  catalog.bucket('crash') ?? (await catalog.submit({ type: 'create-bucket', name: 'crash', owner: 'root' }))
writeSync(1, 'ready\n')

async function write(writer: number): Promise<never> {
  for (let number = Number(first); ; number++) {
    const key = `key-${writer}-${number % keysPerWriter}`
    writeSync(1, `try ${key} ${number}\n`)
    if (isDelete(number)) {
      await catalog.submit({ type: 'delete-objects', bucketId: bucket.id, items: [{ key }], owner: 'root' })
      writeSync(1, `ack ${key} ${number}\n`)
      continue
    }
    const object = inlineObject(registry.begin(), crashBody(number), crashEtag(number))
    await catalog.submit(putCommand(bucket.id, key, object))
    writeSync(1, `ack ${key} ${number}\n`)
  }
}

await Promise.all(Array.from({ length: crashWriters }, (_, writer) => write(writer)))
