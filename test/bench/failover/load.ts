import { createHash, randomBytes } from 'node:crypto'
import type { Site } from './site.ts'

/** A write that was acknowledged. */
export interface Write {
  readonly bucket: string
  readonly key: string
  /** MD5 of its body, hex: the ETag. */
  readonly etag: string
  /** Region that acknowledged it. */
  readonly by: number
  /** When the client began to send it, and when it had the acknowledgement. */
  readonly sentMs: number
  readonly atMs: number
}

const bodyBytes = 512
const writersPerBucket = 2
const pauseMs = 15
/** A region that does not answer by then is left alone; what it answers later counts. */
const patienceMs = 1_000
const elsewhereMs = 20

export const sleep = (delayMs: number): Promise<void> =>
  new Promise((resolve) => setTimeout(resolve, delayMs))

/** Writers that put new keys into whichever region takes them, and remember what was acknowledged. */
export class Load {
  /** Of those whose keys begin with the prefix. */
  writes: Write[] = []
  #prefix = 'before/'
  #number = 0
  #isOver = false
  readonly #running: Promise<unknown>

  constructor(sites: readonly Site[], buckets: readonly string[]) {
    const writers = buckets.flatMap((bucket) =>
      Array.from({ length: writersPerBucket }, () => this.#run(sites, bucket)),
    )
    this.#running = Promise.all(writers)
  }

  /** Keys of what is written from now on begin with this. */
  begin(prefix: string): void {
    this.#prefix = prefix
    this.writes = []
  }

  firstOf(region: number, bucket: string, afterMs: number): Write | undefined {
    return this.writes.find((write) => write.by === region && write.bucket === bucket && write.atMs > afterMs)
  }

  async stop(): Promise<void> {
    this.#isOver = true
    await this.#running
  }

  async #run(sites: readonly Site[], bucket: string): Promise<void> {
    let at = 0
    while (!this.#isOver) {
      const site = sites[at % sites.length] as Site
      const key = `${this.#prefix}${(++this.#number).toString(36).padStart(6, '0')}`
      const body = randomBytes(bodyBytes)
      const etag = createHash('md5').update(body).digest('hex')
      const { writes } = this
      const sentMs = performance.now()
      // Whenever the answer comes: an acknowledgement counts also when nobody waits for it any more.
      const sent = site.client.send({ method: 'PUT', bucket, key, body }).then(
        ({ status }) => {
          const isDone = status === 200
          if (isDone) writes.push({ bucket, key, etag, by: site.region, sentMs, atMs: performance.now() })
          return isDone
        },
        () => false,
      )
      if (await Promise.race([sent, sleep(patienceMs).then(() => false)])) {
        await sleep(pauseMs)
        continue
      }
      at++
      await sleep(elsewhereMs)
    }
  }
}

/** Keys that begin so, with their ETags. */
export async function listed(
  { client }: Site,
  bucket: string,
  prefix: string,
): Promise<ReadonlyMap<string, string>> {
  const found = new Map<string, string>()
  for (let after = ''; ; ) {
    const query = { 'list-type': '2', prefix, ...(after === '' ? {} : { 'start-after': after }) }
    const { status, body } = await client.send({ method: 'GET', bucket, query })
    if (status !== 200) throw new Error(`listing ${bucket}: ${status} ${body}`)
    const page = body.toString()
    for (const [, key = '', etag = ''] of page.matchAll(
      /<Key>([^<]*)<\/Key>.*?<ETag>(?:&quot;|")([0-9a-f]+)/gs,
    ))
      found.set(key, etag)
    const last = [...found.keys()].at(-1)
    if (last === undefined || last === after || page.includes('<IsTruncated>false')) return found
    after = last
  }
}

/** What was looked at is taken away, so that the run measures changes of the primary and not the size of a bucket. */
export async function removeAll({ client }: Site, bucket: string, keys: readonly string[]): Promise<void> {
  for (let at = 0; at < keys.length; at += 1_000) {
    const items = keys.slice(at, at + 1_000).map((key) => `<Object><Key>${key}</Key></Object>`)
    const body = `<Delete><Quiet>true</Quiet>${items.join('')}</Delete>`
    const headers = { 'content-md5': createHash('md5').update(body).digest('base64') }
    const reply = await client.send({ method: 'POST', bucket, query: { delete: '' }, headers, body })
    if (reply.status !== 200 || reply.body.includes('<Error>')) {
      throw new Error(`deleting in ${bucket}: ${reply.status} ${reply.body}`)
    }
  }
}
