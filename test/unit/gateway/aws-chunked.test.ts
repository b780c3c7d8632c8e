import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { StorageError } from '../../../core/contract/errors.ts'
import { ChunkedDecoder, type ChunkedOptions } from '../../../core/gateway/s3/authenticate/aws-chunked.ts'
import { deriveSigningKey } from '../../../core/gateway/s3/authenticate/signing-key.ts'

/** The example of the S3 API reference: 65 KiB of `a` in two chunks. */
const chain = {
  key: deriveSigningKey('wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY', '20130524', 'us-east-1'),
  time: '20130524T000000Z',
  scope: '20130524/us-east-1/s3/aws4_request',
  seed: '4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9',
}
const payload = 'a'.repeat(66560)
const signed =
  `10000;chunk-signature=ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648\r\n${payload.slice(0, 65536)}\r\n` +
  `400;chunk-signature=0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497\r\n${payload.slice(65536)}\r\n` +
  '0;chunk-signature=b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9\r\n\r\n'
const signedWithTrailer =
  `10000;chunk-signature=b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2\r\n${payload.slice(0, 65536)}\r\n` +
  `400;chunk-signature=1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7\r\n${payload.slice(65536)}\r\n` +
  '0;chunk-signature=2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992\r\n' +
  'x-amz-checksum-crc32c:sOO8/Q==\r\n' +
  'x-amz-trailer-signature:d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435\r\n\r\n'
const trailerChain = { ...chain, seed: '106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e' }

function decode(options: ChunkedOptions, wire: string | Uint8Array, cuts: readonly number[] = []) {
  const bytes = typeof wire === 'string' ? Buffer.from(wire, 'latin1') : wire
  const decoder = new ChunkedDecoder(options)
  const pieces: Buffer[] = []
  let start = 0
  for (const cut of [...cuts, bytes.length].sort((a, b) => a - b)) {
    decoder.write(bytes.subarray(start, cut), (piece) => {
      pieces.push(Buffer.from(piece))
      return undefined
    })
    start = cut
  }
  decoder.end()
  return { bytes: Buffer.concat(pieces), trailers: decoder.trailers }
}

const code = (expected: string) => (error: unknown) =>
  error instanceof StorageError && error.code === expected

describe('signed chunks', () => {
  const options = { declaredBytes: payload.length, chain, announcedTrailers: [] }

  test('the published example decodes, wherever the network cuts it', () => {
    assert.equal(decode(options, signed).bytes.toString(), payload)
    fc.assert(
      fc.property(fc.array(fc.nat(signed.length), { maxLength: 12 }), (cuts) => {
        assert.equal(decode(options, signed, cuts).bytes.toString(), payload)
      }),
      { numRuns: 50 },
    )
    const everyByte = Array.from({ length: 200 }, (_, index) => index)
    assert.equal(decode(options, signed, everyByte).bytes.toString(), payload)
  })

  test('the published example with a trailer decodes', () => {
    const { bytes, trailers } = decode(
      {
        declaredBytes: payload.length,
        chain: trailerChain,
        announcedTrailers: ['x-amz-checksum-crc32c'],
      },
      signedWithTrailer,
    )
    assert.equal(bytes.toString(), payload)
    assert.deepEqual([...trailers], [['x-amz-checksum-crc32c', 'sOO8/Q==']])
  })

  test('a changed byte, a changed signature, swapped or dropped chunks are refused', () => {
    const swapped = signed.slice(0, 85) + signed.slice(85).replace('a', 'b')
    assert.throws(() => decode(options, swapped), code('SIGNATURE_DOES_NOT_MATCH'))
    assert.throws(() => decode(options, signed.replace('0055', '0056')), code('SIGNATURE_DOES_NOT_MATCH'))
    assert.throws(
      () => decode({ ...options, chain: { ...chain, seed: trailerChain.seed } }, signed),
      code('SIGNATURE_DOES_NOT_MATCH'),
    )
    const second = signed.indexOf('400;chunk')
    const last = signed.indexOf('0;chunk-signature=b6c6')
    const withoutSecond = signed.slice(0, second) + signed.slice(last)
    assert.throws(() => decode(options, withoutSecond), code('SIGNATURE_DOES_NOT_MATCH'))
    // The end is signed too: a body cannot be cut short.
    assert.throws(() => decode(options, signed.slice(0, last)), code('INCOMPLETE_BODY'))
  })

  const trailing = {
    declaredBytes: payload.length,
    chain: trailerChain,
    announcedTrailers: ['x-amz-checksum-crc32c'],
  }
  /** As minio-go writes it: a bare newline behind the trailer, and an empty line before the signature. */
  const signedByMinio = signedWithTrailer.replace('sOO8/Q==\r\n', 'sOO8/Q==\n\r\n')

  test('an empty line may stand before the signature of the trailers, wherever the network cuts it', () => {
    const tail = signedByMinio.length - signedByMinio.indexOf('x-amz-checksum')
    for (let cut = 0; cut <= tail; cut++) {
      const { bytes, trailers } = decode(trailing, signedByMinio, [signedByMinio.length - cut])
      assert.equal(bytes.length, payload.length)
      assert.deepEqual([...trailers], [['x-amz-checksum-crc32c', 'sOO8/Q==']])
    }
  })

  test('no more than one, and nothing but the signature behind it', () => {
    const refused = (wire: string, expected: string) =>
      assert.throws(() => decode(trailing, wire), code(expected), JSON.stringify(wire.slice(-200)))
    refused(signedByMinio.replace('sOO8', 'sOO9'), 'SIGNATURE_DOES_NOT_MATCH')
    refused(signedByMinio.replace('d81f', 'd81e'), 'SIGNATURE_DOES_NOT_MATCH')
    refused(signedByMinio.replace('\n\r\nx-amz', '\n\r\n\r\nx-amz'), 'SIGNATURE_DOES_NOT_MATCH')
    refused(signedByMinio.slice(0, signedByMinio.indexOf('x-amz-trailer')), 'SIGNATURE_DOES_NOT_MATCH')
    // Behind the empty line no trailer counts, were it signed or not.
    const trailer = 'x-amz-checksum-crc32c:sOO8/Q==\n'
    refused(signedByMinio.replace(`${trailer}\r\n`, `\r\n${trailer}`), 'MALFORMED_TRAILER')
    refused(signedByMinio.replace(`${trailer}\r\n`, `${trailer}\r\n${trailer}`), 'MALFORMED_TRAILER')
    refused(signedByMinio.replace('\n\r\nx-amz', '\n\r\nx-other:1\r\nx-amz'), 'MALFORMED_TRAILER')
    for (const more of ['\r\n', '\n', 'x', '0\r\n\r\n']) {
      refused(`${signedByMinio}${more}`, 'INCOMPLETE_BODY')
      refused(`${signedWithTrailer}${more}`, 'INCOMPLETE_BODY')
    }
    // Chunks without trailers have no such signature to wait for.
    assert.throws(() => decode(options, `${signed}\r\n`), code('INCOMPLETE_BODY'))
  })

  test('a changed trailer or trailer signature is refused', () => {
    assert.throws(
      () => decode(trailing, signedWithTrailer.replace('sOO8', 'sOO9')),
      code('SIGNATURE_DOES_NOT_MATCH'),
    )
    assert.throws(
      () => decode(trailing, signedWithTrailer.replace(/x-amz-trailer-signature.*\r\n/, '')),
      code('SIGNATURE_DOES_NOT_MATCH'),
    )
  })

  test('chunks without signatures are refused where signatures were promised', () => {
    assert.throws(
      () => decode({ ...options, declaredBytes: 1 }, '1\r\na\r\n0\r\n\r\n'),
      code('INCOMPLETE_BODY'),
    )
  })
})

describe('unsigned chunks', () => {
  const options = { declaredBytes: 5, chain: undefined, announcedTrailers: ['x-amz-checksum-crc32'] }
  const wire = '3\r\nabc\r\n2\r\nde\r\n0\r\nx-amz-checksum-crc32: AAAAAA==\r\n\r\n'

  test('decode with their trailer, with and without the last line break', () => {
    for (const form of [wire, wire.slice(0, -2), wire.slice(0, -4)]) {
      const { bytes, trailers } = decode(options, form)
      assert.equal(bytes.toString(), 'abcde')
      assert.equal(trailers.get('x-amz-checksum-crc32'), 'AAAAAA==')
    }
  })

  test('one empty line may follow the end of their trailers', () => {
    // As minio-go writes it.
    const framed = '3\r\nabc\r\n2\r\nde\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\n\r\n\r\n'
    for (let cut = 0; cut < 10; cut++) {
      const { bytes, trailers } = decode(options, framed, [framed.length - cut])
      assert.equal(bytes.toString(), 'abcde')
      assert.equal(trailers.get('x-amz-checksum-crc32'), 'AAAAAA==')
    }
    const refused = [
      `${framed}\r\n`,
      `${framed}\n`,
      `${framed}x`,
      `${framed.slice(0, -2)}x`,
      framed.slice(0, -1),
    ]
    refused.push(`${framed.slice(0, -2)}\rx\r\n`, `${framed.slice(0, -2)}x-amz-checksum-crc32:AAAAAA==\r\n`)
    for (const text of refused) {
      assert.throws(() => decode(options, text), code('INCOMPLETE_BODY'), JSON.stringify(text))
      const everyByte = Array.from({ length: text.length }, (_, index) => index)
      assert.throws(() => decode(options, text, everyByte), code('INCOMPLETE_BODY'), JSON.stringify(text))
    }
    const plain = { ...options, announcedTrailers: [] }
    assert.throws(() => decode(plain, '5\r\nabcde\r\n0\r\n\r\n\r\n'), code('INCOMPLETE_BODY'))
  })

  test('a missing, doubled or unannounced trailer is refused', () => {
    for (const trailer of [
      '',
      'x-amz-checksum-sha1: A\r\n',
      'nonsense\r\n',
      'x-amz-checksum-crc32: A\r\nx-amz-checksum-crc32: B\r\n',
    ]) {
      assert.throws(
        () => decode(options, `5\r\nabcde\r\n0\r\n${trailer}\r\n`),
        code('MALFORMED_TRAILER'),
        trailer,
      )
    }
  })

  test('a body of another length than declared, or that is no aws-chunked body, is refused', () => {
    const broken = [
      '4\r\nabcd\r\n0\r\nx-amz-checksum-crc32: A\r\n\r\n',
      '6\r\nabcdef\r\n0\r\nx-amz-checksum-crc32: A\r\n\r\n',
      'abcde',
      '-5\r\nabcde\r\n0\r\n\r\n',
      '5\r\nabcdefg\r\n0\r\n\r\n',
      `${wire}more`,
      'fffffffffffffffff\r\n',
      `${'0'.repeat(5000)}`,
      '',
    ]
    for (const text of broken) assert.throws(() => decode(options, text), code('INCOMPLETE_BODY'), text)
  })

  test('a sink that asks to wait is waited for, and gets every byte in order', async () => {
    const decoder = new ChunkedDecoder(options)
    const got: string[] = []
    let waiting = 0
    await decoder.write(Buffer.from(wire), (piece) => {
      assert.equal(waiting, 0)
      waiting += 1
      const text = Buffer.from(piece).toString()
      return new Promise((resolve) => {
        setImmediate(() => {
          waiting -= 1
          got.push(text)
          resolve()
        })
      })
    })
    decoder.end()
    assert.deepEqual(got, ['abc', 'de'])
  })
})
