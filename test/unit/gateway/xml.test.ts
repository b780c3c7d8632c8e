import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { StorageError } from '../../../core/contract/errors.ts'
import { document, element, parseXml } from '../../../core/gateway/s3/xml.ts'

const malformed = (error: unknown) => error instanceof StorageError && error.code === 'MALFORMED_XML'

test('text goes through a document unchanged, whatever XML can express', () => {
  // XML 1.0 has no way at all to say these, not even as references.
  const forbidden = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]/
  const text = fc.string({ unit: 'grapheme' }).filter((value) => !forbidden.test(value))
  fc.assert(
    fc.property(text, (value) => {
      assert.equal(parseXml(document('Root', element('Key', value)), 'Root').textOf('Key'), value)
    }),
  )
  for (const value of [' a ', 'a\rb\r\nc\td', '<&>"\'', ']]>', '&amp;', '\u0085\u2028']) {
    assert.equal(parseXml(document('Root', element('Key', value)), 'Root').textOf('Key'), value)
  }
})

test('control characters are written as references', () => {
  assert.equal(element('K', 'a\u0001\r\n'), '<K>a&#1;&#13;&#10;</K>')
})

test('namespaces, attributes, comments, CDATA and references are understood', () => {
  const root = parseXml(
    `<?xml version="1.0"?><!-- c --><s3:Root xmlns:s3="http://s3"><s3:A x:type="t&amp;u">1&#x41;&#66;&lt;</s3:A><A><![CDATA[<&>]]></A></s3:Root>`,
    'Root',
  )
  assert.deepEqual(
    root.all('A').map((child) => child.text),
    ['1AB<', '<&>'],
  )
  assert.equal(root.child('A')?.attributes.get('type'), 't&u')
  assert.equal(root.child('B'), undefined)
})

test('what is not well-formed, or is dangerous, is refused', () => {
  const bad = [
    '',
    'text',
    '<Root>',
    '<Root></Other>',
    '<Other/>',
    '<Root/><Root/>',
    '<Root>&unknown;</Root>',
    '<Root>&</Root>',
    '<Root>&#x110000;</Root>',
    '<Root>&#xd800;</Root>',
    '<!DOCTYPE Root [<!ENTITY a "b">]><Root>&a;</Root>',
    '<!DOCTYPE Root SYSTEM "file:///etc/passwd"><Root/>',
    `<Root>${'<A>'.repeat(100)}${'</A>'.repeat(100)}</Root>`,
  ]
  for (const text of bad) assert.throws(() => parseXml(text, 'Root'), malformed, text)
})

test('a document over the limit is refused before it is parsed', () => {
  assert.throws(() => parseXml(`<Root>${'a'.repeat(1024 * 1024)}</Root>`, 'Root'), malformed)
  assert.throws(() => parseXml('<Root>12345</Root>', 'Root', 10), malformed)
})

test('no bytes make the parser do anything but answer or refuse', () => {
  fc.assert(
    fc.property(
      fc.array(
        fc.constantFrom(
          '<',
          '>',
          '/',
          'Root',
          '&',
          ';',
          '#',
          '"',
          '=',
          ' ',
          '!',
          '[',
          ']',
          '?',
          '-',
          'CDATA',
          'a',
        ),
      ),
      (parts) => {
        try {
          parseXml(parts.join(''), 'Root')
        } catch (error) {
          assert.ok(malformed(error), String(error))
        }
      },
    ),
    { numRuns: 2000 },
  )
})
