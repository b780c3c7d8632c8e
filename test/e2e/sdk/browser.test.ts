import assert from 'node:assert/strict'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { resolve } from 'node:path'
import test from 'node:test'
import { build } from 'esbuild'
import { chromium } from 'playwright-core'
import { PandoClient, readHeaders } from '../../../sdk/index.ts'
import { startNode } from '../../kit/node-process.ts'
import type { PageSettings } from './browser-page.ts'

const browserPath = ['/usr/bin/chromium-headless-shell', '/usr/bin/chromium'].find((path) => existsSync(path))
const skip = browserPath === undefined && 'no Chromium (npm run setup -- --browser)'

test('in Chromium, from another origin: put, get, ranges, parts, lists, conditions', {
  skip,
  timeout: 180_000,
}, async () => {
  await using node = await startNode()
  const credentials = { accessKeyId: node.accessKey, secretAccessKey: node.secretKey }
  const bucket = 'sdk-browser'
  const owner = new PandoClient({ endpoints: [node.endpoint], credentials })
  await owner.createBucket(bucket)

  const bundled = await build({
    entryPoints: [resolve('test/e2e/sdk/browser-page.ts')],
    ...{ bundle: true, write: false, format: 'iife', globalName: 'page', platform: 'browser' },
  })
  // A page on localhost is a secure context; the node has another port, so another origin.
  const server = createServer((request, response) => {
    const isScript = request.url === '/page.js'
    response.setHeader('content-type', isScript ? 'text/javascript' : 'text/html; charset=utf-8')
    response.end(isScript ? bundled.outputFiles[0]?.text : '<!doctype html><script src="/page.js"></script>')
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  await owner.setCors(bucket, [
    {
      origins: [origin],
      methods: ['GET', 'HEAD', 'PUT', 'POST', 'DELETE'],
      exposeHeaders: [...readHeaders, 'x-amz-meta-by'],
    },
  ])
  const browser = await chromium.launch({
    ...(browserPath === undefined ? {} : { executablePath: browserPath }),
    args: ['--no-sandbox', '--disable-gpu'],
    timeout: 90_000,
  })
  try {
    const page = await browser.newPage()
    page.setDefaultTimeout(90_000)
    await page.goto(origin)
    const settings: PageSettings = {
      endpoint: node.endpoint,
      ...credentials,
      bucket,
      partedBytes: 11 * 1024 * 1024 + 3,
    }
    const source = `page.runPage(${JSON.stringify(settings)})`
    const seen: unknown = await page.evaluate(source)
    assert.deepEqual(seen, {
      metadata: 'page',
      small: 'from a page',
      progress: settings.partedBytes,
      parts: '3',
      type: 'application/x-test',
      checksum: 'CRC32',
      same: true,
      streamed: settings.partedBytes,
      range: 'a',
      keys: ['parted', 'small/../käse'],
      refused: 'PreconditionFailed',
      gone: 'NotFound',
    })
  } finally {
    await browser.close()
    server.close()
  }
})
