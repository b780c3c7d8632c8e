import { createHash, createHmac } from 'node:crypto'

export interface Endpoint {
  /** `http://host:port`, without a path. */
  readonly url: string
  readonly accessKey: string
  readonly secretKey: string
}

/** A signer of query-authenticated requests (Signature V4, unsigned payload), good for a day. */
export interface Presigner {
  /** Path and query to put behind the endpoint's URL. `key` is used as it is: characters that need no escape. */
  sign(method: string, bucket: string, key?: string, query?: Readonly<Record<string, string>>): string
}

const region = 'us-east-1'

export function presigner(endpoint: Endpoint, at: Date): Presigner {
  const time = at.toISOString().replace(/[-:]|\.\d{3}/g, '')
  const scope = `${time.slice(0, 8)}/${region}/s3/aws4_request`
  const signingKey = scope
    .split('/')
    .reduce<string | Buffer>((key, part) => mac(key, part), `AWS4${endpoint.secretKey}`)
  const host = new URL(endpoint.url).host
  const fixed = {
    'X-Amz-Algorithm': 'AWS4-HMAC-SHA256',
    'X-Amz-Credential': `${endpoint.accessKey}/${scope}`,
    'X-Amz-Date': time,
    'X-Amz-Expires': '86400',
    'X-Amz-SignedHeaders': 'host',
  }
  return {
    sign(method, bucket, key, query = {}) {
      const path = key === undefined ? `/${bucket}` : `/${bucket}/${key}`
      const canonicalQuery = Object.entries({ ...fixed, ...query })
        .map(([name, value]) => `${encodeURIComponent(name)}=${encodeURIComponent(value)}`)
        .sort()
        .join('&')
      const request = `${method}\n${path}\n${canonicalQuery}\nhost:${host}\n\nhost\nUNSIGNED-PAYLOAD`
      const digest = createHash('sha256').update(request).digest('hex')
      const signature = mac(signingKey, `AWS4-HMAC-SHA256\n${time}\n${scope}\n${digest}`).toString('hex')
      return `${path}?${canonicalQuery}&X-Amz-Signature=${signature}`
    },
  }
}

function mac(key: string | Buffer, text: string): Buffer {
  return createHmac('sha256', key).update(text).digest()
}
