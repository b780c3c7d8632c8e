import assert from 'node:assert/strict'
import { request } from 'node:http'
import { after, before, describe, test } from 'node:test'
import { CreateBucketCommand } from '@aws-sdk/client-s3'
import { StorageError } from '../../../core/contract/errors.ts'
import type { Gateway } from '../../../core/gateway/s3/operation.ts'
import { createS3Server } from '../../../core/gateway/s3/server.ts'
import { type S3Region, startS3Region } from '../../kit/s3-region.ts'

interface Answer {
  readonly status: number
  readonly location: string | undefined
  readonly text: string
}

/** One request with a Host of its own, which `fetch` forbids. `path` is the target as it is sent. */
function ask(
  port: number,
  method: string,
  path: string,
  host: string,
  body = '',
  more: Record<string, string> = {},
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const headers = { host, 'content-length': Buffer.byteLength(body), ...more }
    const client = request({ host: '127.0.0.1', port, method, path, headers }, (answer) => {
      let text = ''
      answer.setEncoding('utf8')
      answer.on('data', (piece: string) => {
        text += piece
      })
      answer.on('end', () =>
        resolve({ status: answer.statusCode ?? 0, location: answer.headers.location, text }),
      )
    })
    client.on('error', reject)
    client.end(body)
  })
}

describe('requests whose bucket is the name of the host', () => {
  let region: S3Region
  let byHost: string
  let byPath: string
  const Bucket = 'uploads'

  before(async () => {
    region = await startS3Region()
    byHost = `${Bucket}.s3.localhost:${region.port}`
    byPath = `s3.localhost:${region.port}`
    await region.client().send(new CreateBucketCommand({ Bucket, ACL: 'public-read-write' }))
  })
  after(() => region.close())

  const readable = { 'x-amz-acl': 'public-read' }
  const locationIn = (text: string): string => /<Location>(.*)<\/Location>/.exec(text)?.[1] ?? ''

  async function follow(location: string): Promise<string> {
    const { host, pathname } = new URL(location)
    return (await ask(region.port, 'GET', pathname, host)).text
  }

  test('a completed upload and a form say where their object is, by host as by path', async () => {
    for (const [host, prefix] of [
      [byHost, ''],
      [byPath, `/${Bucket}`],
    ] as const) {
      const path = `${prefix}/photos/a%20b.jpg`
      const started = await ask(region.port, 'POST', `${path}?uploads`, host, '', readable)
      const uploadId = /<UploadId>(.*)<\/UploadId>/.exec(started.text)?.[1] ?? ''
      const part = await ask(region.port, 'PUT', `${path}?partNumber=1&uploadId=${uploadId}`, host, 'hello')
      assert.equal(part.status, 200)
      const list =
        '<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>5d41402abc4b2a76b9719d911017c592</ETag></Part>' +
        '</CompleteMultipartUpload>'
      const done = await ask(region.port, 'POST', `${path}?uploadId=${uploadId}`, host, list)
      assert.equal(locationIn(done.text), `http://${host}${path}`)
      assert.equal(await follow(locationIn(done.text)), 'hello')

      const form = new FormData()
      form.append('key', 'forms/a b')
      form.append('acl', 'public-read')
      form.append('success_action_status', '201')
      form.append('file', new Blob(['the form']), 'f.txt')
      const encoded = new Response(form)
      const type = { 'content-type': encoded.headers.get('content-type') ?? '' }
      const posted = await ask(region.port, 'POST', `${prefix}/`, host, await encoded.text(), type)
      assert.equal(posted.location, `http://${host}${prefix}/forms/a%20b`)
      assert.equal(locationIn(posted.text), posted.location)
      assert.equal(await follow(locationIn(posted.text)), 'the form')
    }
  })

  test('a redirect to the primary names the bucket, in whatever form the request did', async () => {
    const primary = 'http://primary.example:9000'
    const { id } = region.catalog.bucket(Bucket) ?? assert.fail('there is no bucket')
    const catalog = new Proxy(region.catalog, {
      get(target, name) {
        if (name === 'submit') {
          return () => Promise.reject(new StorageError('NOT_PRIMARY', 'another region writes the bucket'))
        }
        if (name === 'bucket') {
          return (asked: string) => {
            const bucket = target.bucket(asked)
            return bucket === undefined ? undefined : { ...bucket, replicated: true }
          }
        }
        const value: unknown = Reflect.get(target, name)
        return typeof value === 'function' ? value.bind(target) : value
      },
    })
    const none = () => Promise.reject(new Error('nothing was to be asked'))
    const gateway: Gateway = {
      ...region.gateway,
      catalog,
      failover: {
        primaryOf: (bucketId) =>
          bucketId === id ? { epoch: 1, primary: 2, endpoints: [primary] } : undefined,
        confirm: async () => {},
        groups: () => [],
      },
      replication: {
        ...{ regionId: 1, replicate: none, stop: none, regions: none, holdBackMs: () => 0 },
        ...{ refusal: () => undefined, edge: { look: async () => undefined, list: async () => undefined } },
      },
    }
    const server = createS3Server(gateway)
    try {
      const { port } = await server.listen('127.0.0.1', 0)
      const redirected = async (path: string, host: string) => {
        const { status, location } = await ask(port, 'PUT', path, host, 'x')
        assert.equal(status, 307)
        return location
      }
      const wanted = `${primary}/${Bucket}/a/b%20c?x-id=PutObject&y=%2F`
      assert.equal(await redirected(`/${Bucket}/a/b%20c?x-id=PutObject&y=%2F`, byPath), wanted)
      assert.equal(await redirected('/a/b%20c?x-id=PutObject&y=%2F', byHost), wanted)
      assert.equal(await redirected(`http://${byHost}/a/b%20c?x-id=PutObject&y=%2F`, byHost), wanted)
      assert.equal(
        await redirected(`http://${byPath}/${Bucket}/a/b%20c`, byPath),
        `${primary}/${Bucket}/a/b%20c`,
      )
      // A key that is named as a bucket could be stays a key.
      assert.equal(await redirected('/other/key', byHost), `${primary}/${Bucket}/other/key`)
    } finally {
      await server.close(100)
    }
  })
})
