import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import {
  type CorsRule,
  corsAnswer,
  findCorsRule,
  matchesSingleWildcard,
} from '../../../core/gateway/s3/cors-rules.ts'

const rule = (fields: Partial<CorsRule>): CorsRule => ({
  allowedOrigins: ['https://a.example'],
  allowedMethods: ['GET'],
  allowedHeaders: [],
  exposeHeaders: [],
  ...fields,
})

test('a wildcard stands for any run of characters, also none, at any place', () => {
  assert.equal(matchesSingleWildcard('*suffix', 'foo.suffix'), true)
  assert.equal(matchesSingleWildcard('start*end', 'startend'), true)
  assert.equal(matchesSingleWildcard('start*end', 'start12end'), true)
  assert.equal(matchesSingleWildcard('start*end', '0start12end'), false)
  assert.equal(matchesSingleWildcard('prefix*', 'prefix'), true)
  assert.equal(matchesSingleWildcard('ab*ba', 'aba'), false)
  assert.equal(matchesSingleWildcard('*', ''), true)
  assert.equal(matchesSingleWildcard('.example', 'xexample'), false)
})

test('wildcard matching agrees with a definition by splitting', () => {
  const letters = fc.string({ unit: fc.constantFrom('a', 'b'), maxLength: 5 })
  fc.assert(
    fc.property(letters, letters, letters, (head, tail, text) => {
      let expected = false
      for (let from = 0; from <= text.length; from += 1) {
        for (let to = from; to <= text.length; to += 1) {
          if (text.slice(0, from) === head && text.slice(to) === tail) expected = true
        }
      }
      assert.equal(matchesSingleWildcard(`${head}*${tail}`, text), expected)
    }),
  )
})

test('the first rule that allows origin, method and all headers is taken', () => {
  const rules = [
    rule({ allowedMethods: ['PUT'] }),
    rule({
      id: 'second',
      allowedOrigins: ['https://*.example'],
      allowedHeaders: ['x-amz-*', 'Content-Type'],
    }),
  ]
  const find = (origin: string, method: string, headers: string[] = []) =>
    findCorsRule(rules, origin, method, headers)?.id
  assert.equal(find('https://a.example', 'GET'), 'second')
  assert.equal(find('https://a.example', 'GET', ['X-Amz-Date', 'content-type']), 'second')
  assert.equal(find('https://a.example', 'GET', ['x-other']), undefined)
  assert.equal(find('http://a.example', 'GET'), undefined)
  assert.equal(findCorsRule(rules, 'https://a.example', 'PUT', [])?.allowedMethods[0], 'PUT')
})

test('only a rule without wildcard origin allows credentials', () => {
  const exact = corsAnswer(rule({ exposeHeaders: ['ETag'], maxAgeSeconds: 60 }), 'https://a.example', ['x-a'])
  assert.equal(exact['access-control-allow-origin'], 'https://a.example')
  assert.equal(exact['access-control-allow-credentials'], 'true')
  assert.equal(exact['access-control-allow-headers'], 'x-a')
  assert.equal(exact['access-control-expose-headers'], 'ETag')
  assert.equal(exact['access-control-max-age'], '60')
  const any = corsAnswer(rule({ allowedOrigins: ['*'] }), 'https://a.example', [])
  assert.equal(any['access-control-allow-origin'], '*')
  assert.equal(Object.hasOwn(any, 'access-control-allow-credentials'), false)
})
