import { createRequire } from 'node:module'
import type { XMLParser, XMLValidator } from 'fast-xml-parser'
import { StorageError } from '../../contract/errors.ts'

/**
 * XML out by string building, XML in by fast-xml-parser with everything dangerous off. A request document with a
 * document type is refused, so no entity but the five predefined ones and character references exists.
 */

export const s3Namespace = 'http://s3.amazonaws.com/doc/2006-03-01/'
export const xmlDeclaration = '<?xml version="1.0" encoding="UTF-8"?>\n'

/** Request documents are capped at 1 MiB. */
export const maxDocumentBytes = 1024 * 1024
/** No S3 document nests deeper than about 6. */
const maxDepth = 32

// biome-ignore lint/suspicious/noControlCharactersInRegex: these are the characters that must be escaped
const special = /[&<>"\u0000-\u001f\u007f-\u009f\ufffe\uffff]/
// biome-ignore lint/suspicious/noControlCharactersInRegex: these are the characters that must be escaped
const specials = /[&<>"\u0000-\u001f\u007f-\u009f\ufffe\uffff]/g

function replacement(character: string): string {
  switch (character) {
    case '&':
      return '&amp;'
    case '<':
      return '&lt;'
    case '>':
      return '&gt;'
    case '"':
      return '&quot;'
    default:
      return `&#${character.charCodeAt(0)};`
  }
}

/**
 * Text for element content or a double-quoted attribute. Control characters become character references: a parser would
 * otherwise turn a carriage return in a key into a line feed. (Those that XML 1.0 cannot express at all, such as NUL,
 * are why listings have encoding-type=url.)
 */
export function escapeXml(text: string): string {
  return special.test(text) ? text.replace(specials, replacement) : text
}

/** `<name>escaped text</name>`; nothing when the value is undefined. */
export function element(name: string, value: string | number | boolean | undefined): string {
  if (value === undefined) return ''
  return `<${name}>${typeof value === 'string' ? escapeXml(value) : value}</${name}>`
}

/** A whole answer document: `body` is already XML. */
export function document(root: string, body: string): string {
  return `${xmlDeclaration}<${root} xmlns="${s3Namespace}">${body}</${root}>`
}

/** An element of a request document. Names are without namespace prefixes. */
export class XmlElement {
  readonly name: string
  readonly attributes: ReadonlyMap<string, string>
  readonly children: readonly XmlElement[]
  /** The character data directly inside, exactly as sent (entities resolved). */
  readonly text: string

  constructor(
    name: string,
    attributes: ReadonlyMap<string, string>,
    children: readonly XmlElement[],
    text: string,
  ) {
    this.name = name
    this.attributes = attributes
    this.children = children
    this.text = text
  }

  /** The first child of that name. */
  child(name: string): XmlElement | undefined {
    return this.children.find((child) => child.name === name)
  }

  all(name: string): XmlElement[] {
    return this.children.filter((child) => child.name === name)
  }

  /** Text of the first child of that name, undefined when there is none. */
  textOf(name: string): string | undefined {
    return this.child(name)?.text
  }
}

interface Reader {
  readonly parser: XMLParser
  readonly validator: typeof XMLValidator
}

let reader: Reader | undefined

/** Loaded at the first document: a node starts without it, and most requests have none. */
function documentReader(): Reader {
  if (reader !== undefined) return reader
  const library = createRequire(import.meta.url)('fast-xml-parser') as typeof import('fast-xml-parser')
  const parser = new library.XMLParser({
    preserveOrder: true,
    ignoreAttributes: false,
    attributeNamePrefix: '',
    removeNSPrefix: true,
    processEntities: false,
    htmlEntities: false,
    parseTagValue: false,
    parseAttributeValue: false,
    trimValues: false,
    ignoreDeclaration: true,
    ignorePiTags: true,
    cdataPropName: '#cdata',
  })
  reader = { parser, validator: library.XMLValidator }
  return reader
}

const malformed = (cause?: unknown): StorageError =>
  new StorageError(
    'MALFORMED_XML',
    'The XML you provided was not well-formed or did not validate against our published schema',
    { cause },
  )

/** Parses a request document and checks the name of its root. MALFORMED_XML, also beyond `limit` UTF-16 units. */
export function parseXml(text: string, rootName: string, limit = maxDocumentBytes): XmlElement {
  if (text.length > limit || /<!DOCTYPE|<!ENTITY/i.test(text)) throw malformed()
  const { parser, validator } = documentReader()
  let nodes: unknown
  try {
    if (validator.validate(text) !== true) throw malformed()
    nodes = parser.parse(text)
  } catch (error) {
    throw malformed(error)
  }
  if (!Array.isArray(nodes)) throw malformed()
  const roots = nodes.filter((node) => elementName(node) !== undefined)
  if (roots.length !== 1) throw malformed()
  const root = convert(roots[0], 0)
  if (root.name !== rootName) throw malformed()
  return root
}

function elementName(node: unknown): string | undefined {
  if (typeof node !== 'object' || node === null) return undefined
  return Object.keys(node).find((name) => name !== ':@' && name !== '#text' && name !== '#cdata')
}

function convert(node: unknown, depth: number): XmlElement {
  const name = elementName(node)
  if (name === undefined || depth > maxDepth) throw malformed()
  const fields = node as Record<string, unknown>
  const content = fields[name]
  if (!Array.isArray(content)) throw malformed()
  const attributes = new Map<string, string>()
  const rawAttributes = fields[':@']
  if (typeof rawAttributes === 'object' && rawAttributes !== null) {
    for (const [key, value] of Object.entries(rawAttributes))
      attributes.set(key, decodeEntities(String(value)))
  }
  const children: XmlElement[] = []
  let text = ''
  for (const item of content as Record<string, unknown>[]) {
    if (typeof item['#text'] === 'string') text += decodeEntities(item['#text'])
    else if (Array.isArray(item['#cdata'])) {
      for (const part of item['#cdata'] as Record<string, unknown>[]) text += String(part['#text'] ?? '')
    } else children.push(convert(item, depth + 1))
  }
  return new XmlElement(name, attributes, children, text)
}

const predefined: Readonly<Record<string, string>> = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'" }

function decodeEntities(text: string): string {
  if (!text.includes('&')) return text
  return text.replace(/&([^;&]{0,12});?/g, (whole, name: string) => {
    if (!whole.endsWith(';')) throw malformed()
    const simple = Object.hasOwn(predefined, name) ? predefined[name] : undefined
    if (simple !== undefined) return simple
    const reference = /^#(?:x([0-9a-fA-F]{1,6})|([0-9]{1,7}))$/.exec(name)
    if (reference === null) throw malformed()
    const code =
      reference[1] === undefined ? Number.parseInt(reference[2] ?? '', 10) : Number.parseInt(reference[1], 16)
    if (code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff)) throw malformed()
    return String.fromCodePoint(code)
  })
}
