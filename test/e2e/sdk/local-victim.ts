// An application that writes and reads through shared memory until somebody kills it. `local-victim.js DIRECTORY ENDPOINT ACCESS SECRET`;
// prints `going` when memory is there and both are under way.
import { PandoClient } from '../../../sdk/index.ts'
import { localTransport } from '../../../sdk/local/index.ts'

const [directory = '', endpoint = '', accessKeyId = '', secretAccessKey = ''] = process.argv.slice(2)
const transport = localTransport({ directory })
const client = new PandoClient({
  endpoints: [endpoint],
  credentials: { accessKeyId, secretAccessKey },
  transport,
})
const bytes = new Uint8Array(12 * 1024 * 1024).fill(5)
await client.createBucket('victims', { ifMissing: true })
await client.put('victims', 'read', bytes)
let told = false
const write = async (): Promise<never> => {
  for (let turn = 0; ; turn++) await client.put('victims', `written/${turn % 4}`, bytes)
}
const read = async (): Promise<never> => {
  for (;;) {
    const object = await client.get('victims', 'read')
    for await (const piece of object.body) {
      if (told || piece.length === 0) continue
      told = transport.taken?.way === 'local' && transport.taken.sharedMemory
      if (told) console.log('going')
    }
  }
}
await Promise.race([write(), write(), read(), read()])
