import assert from 'node:assert/strict'
import test from 'node:test'
import fc from 'fast-check'
import { childrenOf, numberOf, parseXml, textOf, urlDecoded, xmlElement } from '../../../sdk/client/xml.ts'

test('elements, text, entities and namespaces of an S3 answer', () => {
  const root = parseXml(
    '<?xml version="1.0" encoding="UTF-8"?>\n<a:R xmlns:a="x"><K>1 &lt;&amp;&#38;&#x1F408; &quot;</K><E/><E b="c"></E><N> 42 </N></a:R>\n',
  )
  assert.equal(root.name, 'R')
  assert.equal(textOf(root, 'K'), '1 <&&🐈 "')
  assert.equal(childrenOf(root, 'E').length, 2)
  assert.equal(numberOf(root, 'N'), 42)
  assert.equal(textOf(root, 'missing'), undefined)
})

const hostile: readonly (readonly [string, string])[] = [
  ['nothing', ''],
  ['no XML', 'hello'],
  ['an early end', '<a><b>'],
  ['a tag that does not end', '<a'],
  ['tags that do not match', '<a><b></a></b>'],
  ['two roots', '<a/><b/>'],
  ['text behind the root', '<a/>x'],
  ['a document type', '<!DOCTYPE a [<!ENTITY x "y">]><a>&x;</a>'],
  ['an external entity', '<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>'],
  ['an unknown entity', '<a>&nbsp;</a>'],
  ['an entity with a name of Object', '<a>&constructor;</a>'],
  ['a bare ampersand', '<a>a & b</a>'],
  ['a character beyond Unicode', '<a>&#x110000;</a>'],
  ['CDATA', '<a><![CDATA[x]]></a>'],
  ['a comment', '<a><!-- x --></a>'],
  ['an instruction inside', '<a><?php x ?></a>'],
  ['a name that is none', '<a><1b/></a>'],
  ['more depth than any answer has', '<a>'.repeat(1e5) + '</a>'.repeat(1e5)],
  ['more elements than any answer has', `<a>${'<b/>'.repeat(300_000)}</a>`],
]
for (const [name, text] of hostile) {
  test(`${name} is refused`, () => {
    assert.throws(() => parseXml(text), { code: 'InvalidAnswer' })
  })
}

test('whatever arrives is parsed or refused, and nothing else happens', () => {
  const noise = fc.array(
    fc.constantFrom(
      '<a>',
      '</a>',
      '<b/>',
      '&amp;',
      '&',
      '<',
      '>',
      '<?',
      '?>',
      '<!',
      'x',
      ' ',
      '</',
      '&#x0;',
      '&#0;',
    ),
    { maxLength: 30 },
  )
  fc.assert(
    fc.property(noise, (parts) => {
      try {
        parseXml(parts.join(''))
      } catch (error) {
        assert.ok(error instanceof Error && 'code' in error && error.code === 'InvalidAnswer', String(error))
      }
    }),
    { numRuns: 2000 },
  )
})

test('what is written is read back', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), (text) => {
      assert.equal(parseXml(xmlElement('K', text)).text, text)
    }),
  )
})

test('names are URL-decoded, with a plus sign for a space, or refused', () => {
  assert.equal(urlDecoded('a+b%2Bc%F0%9F%90%88'), 'a b+c🐈')
  assert.throws(() => urlDecoded('%zz'), { code: 'InvalidAnswer' })
})
