import { PandoClient } from '../../../sdk/index.ts'

/** What the browser test's page runs; bundled by esbuild. Everything is told as one plain value. */
export interface PageSettings {
  readonly endpoint: string
  readonly accessKeyId: string
  readonly secretAccessKey: string
  readonly bucket: string
  readonly partedBytes: number
}

export async function runPage(settings: PageSettings): Promise<Record<string, unknown>> {
  const { endpoint, bucket, accessKeyId, secretAccessKey, partedBytes } = settings
  const client = new PandoClient({ endpoints: [endpoint], credentials: { accessKeyId, secretAccessKey } })
  const seen: Record<string, unknown> = {}
  await client.put(bucket, 'small/../käse', 'from a page', {
    metadata: { by: 'page' },
    contentType: 'text/plain',
  })
  const small = await client.get(bucket, 'small/../käse')
  seen['metadata'] = small.metadata['by']
  seen['small'] = await small.text()

  const bytes = new Uint8Array(partedBytes)
  for (let index = 0; index < bytes.length; index++) bytes[index] = (index * 31 + (index >>> 12)) & 0xff
  const progress: number[] = []
  const put = await client.put(bucket, 'parted', new Blob([bytes], { type: 'application/x-test' }), {
    partSize: 5 * 1024 * 1024,
    onProgress: ({ loaded }) => progress.push(loaded),
  })
  seen['progress'] = progress.at(-1)
  seen['parts'] = put.etag.split('-')[1]
  const parted = await client.get(bucket, 'parted', { parallel: 3, partSize: 1024 * 1024 })
  seen['type'] = parted.contentType
  seen['checksum'] = parted.info.checksum?.algorithm
  const back = await parted.bytes()
  seen['same'] = back.length === bytes.length && back.every((byte, index) => byte === bytes[index])
  const pieces: number[] = []
  for (const reader = (await client.get(bucket, 'parted')).body.getReader(); ; ) {
    const { done, value } = await reader.read()
    if (done) break
    pieces.push(value.length)
  }
  seen['streamed'] = pieces.reduce((sum, length) => sum + length, 0)
  seen['range'] = await (await client.get(bucket, 'small/../käse', { range: { start: 5, end: 5 } })).text()
  const keys: string[] = []
  for await (const entry of client.list(bucket)) keys.push(entry.type === 'object' ? entry.key : entry.prefix)
  seen['keys'] = keys
  const refused = client.put(bucket, 'parted', 'x', { ifNoneMatch: '*' })
  seen['refused'] = await refused.then(String, (error: { code: string }) => error.code)
  await client.delete(bucket, 'parted')
  const gone = client.head(bucket, 'parted')
  seen['gone'] = await gone.then(String, (error: { code: string }) => error.code)
  return seen
}
