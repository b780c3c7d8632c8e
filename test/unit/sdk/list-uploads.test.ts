import assert from 'node:assert/strict'
import test from 'node:test'
import type { UploadEntry } from '../../../sdk/index.ts'
import { scriptNetwork, silence, watch } from './scripted-network.ts'

const page = (inside: string): Response =>
  new Response(`<ListMultipartUploadsResult>${inside}</ListMultipartUploadsResult>`)

const upload = (key: string, id: string): string =>
  `<Upload><Key>${key}</Key><UploadId>${id}</UploadId><Initiated>2026-01-02T03:04:05.000Z</Initiated></Upload>`

async function collect(entries: AsyncIterable<UploadEntry>): Promise<readonly UploadEntry[]> {
  const found: UploadEntry[] = []
  for await (const entry of entries) found.push(entry)
  return found
}

test('unfinished uploads are listed page by page, each page behind the last key and upload of the one before', async () => {
  const network = scriptNetwork()
  network.serve('a', ({ target }) =>
    new URLSearchParams(target.split('?')[1]).get('key-marker') === 'b c'
      ? page(upload('d', '3'))
      : page(
          `<IsTruncated>true</IsTruncated><NextKeyMarker>b%20c</NextKeyMarker><NextUploadIdMarker>2</NextUploadIdMarker>${upload('b%20c', '1')}${upload('b%20c', '2')}<CommonPrefixes><Prefix>a%2F</Prefix></CommonPrefixes>`,
        ),
  )
  const found = await collect(
    network.client().listUploads('films', { pageSize: 3, delimiter: '/', after: { key: 'a' } }),
  )
  assert.deepEqual(
    found.map((entry) => (entry.type === 'prefix' ? entry.prefix : `${entry.key} ${entry.uploadId}`)),
    ['a/', 'b c 1', 'b c 2', 'd 3'],
  )
  assert.deepEqual(
    network.requests.map(({ target }) => Object.fromEntries(new URLSearchParams(target.split('?')[1]))),
    [
      { 'encoding-type': 'url', 'max-uploads': '3', delimiter: '/', uploads: '', 'key-marker': 'a' },
      {
        ...{ 'encoding-type': 'url', 'max-uploads': '3', delimiter: '/', uploads: '' },
        ...{ 'key-marker': 'b c', 'upload-id-marker': '2' },
      },
    ],
  )
})

test('a server whose listing of uploads goes on where it began is not asked for ever', async () => {
  const network = scriptNetwork()
  network.serve('a', () =>
    page(
      '<IsTruncated>true</IsTruncated><NextKeyMarker>k</NextKeyMarker><NextUploadIdMarker>1</NextUploadIdMarker>',
    ),
  )
  await assert.rejects(collect(network.client().listUploads('films')), {
    code: 'InvalidAnswer',
  })
  assert.equal(network.requests.length, 2)
})

test('a server whose listing of parts goes on where it began is not asked for ever', async () => {
  const network = scriptNetwork()
  const parts = (inside: string): Response => new Response(`<ListPartsResult>${inside}</ListPartsResult>`)
  const part = (number: number): string => `<Part><PartNumber>${number}</PartNumber><Size>5</Size></Part>`
  network.serve('a', ({ target }) => {
    if (network.requests.length > 9) return new Response('', { status: 400 })
    const marker = new URLSearchParams(target.split('?')[1]).get('part-number-marker')
    return parts(`<IsTruncated>true</IsTruncated>${marker === '0' ? part(1) + part(2) : part(2)}`)
  })
  await assert.rejects(network.client().uploadedBytes({ bucket: 'films', key: 'a', uploadId: 'u' }), {
    code: 'InvalidAnswer',
  })
  assert.equal(network.requests.length, 2)
})

test('an abort while an upload is begun takes it back, as soon as its id is known', async () => {
  const network = scriptNetwork()
  let begin: (answer: Response) => void = () => {}
  const begun = new Promise<Response>((resolve) => {
    begin = resolve
  })
  network.serve('a', ({ method }) => (method === 'POST' ? begun : new Response(undefined, { status: 204 })))
  const controller = new AbortController()
  const { signal } = controller
  const body = new Uint8Array(11 * 1024 * 1024)
  const seen = watch(network.client().put('films', 'a', body, { partSize: 5 * 1024 * 1024, signal }))
  await network.clock.advance(10)
  const reason = new Error('the user went away')
  controller.abort(reason)
  await network.clock.advance(10)
  begin(new Response('<R><UploadId>u 1</UploadId></R>'))
  await network.clock.advance(10)
  assert.equal(seen.error, reason)
  assert.deepEqual(
    network.requests.map(({ method, target }) => [method, target]),
    [
      ['POST', '/films/a?uploads='],
      ['DELETE', '/films/a?uploadId=u%201'],
    ],
  )
  assert.equal(network.clock.pending, 0)
})

test('an abort while an upload is begun by a server that says nothing ends the call all the same', async () => {
  const network = scriptNetwork()
  network.serve('a', silence)
  const controller = new AbortController()
  const { signal } = controller
  const body = new Uint8Array(11 * 1024 * 1024)
  const seen = watch(network.client().put('films', 'a', body, { partSize: 5 * 1024 * 1024, signal }))
  await network.clock.advance(10)
  const reason = new Error('the user went away')
  controller.abort(reason)
  await network.clock.advance(10_000)
  assert.equal(seen.error, reason)
  assert.equal(network.clock.pending, 0)
})

test('an upload that was listed is taken back by its name; one that is gone is as good', async () => {
  const network = scriptNetwork()
  network.serve(
    'a',
    () => new Response('<Error><Code>NoSuchUpload</Code><Message>gone</Message></Error>', { status: 404 }),
  )
  await network.client().abortUpload({ bucket: 'films', key: 'a/b', uploadId: 'u 1' })
  const { method, target } = network.requests[0] ?? assert.fail('nothing was asked')
  assert.deepEqual([method, target], ['DELETE', '/films/a/b?uploadId=u%201'])
  await assert.rejects(
    network.client().abortUpload({ bucket: 'films?', key: 'a', uploadId: '1' }),
    { code: 'InvalidArgument' },
    'no other request is made of a strange name',
  )
})
