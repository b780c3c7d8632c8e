import { invalidAnswer } from './errors.ts'

/**
 * The XML of S3's answers, and no more of XML than that: elements, text, the five entities and character references.
 * Anything else (document types, processing instructions inside, mismatched tags, too deep, too many) is refused, so a
 * hostile answer costs time in proportion to its length and nothing else.
 */
export interface XmlElement {
  /** Without namespace prefix. */
  readonly name: string
  /** Of the element itself, children left out. */
  readonly text: string
  readonly children: readonly XmlElement[]
}

const maxDepth = 16
/** A page of 1000 versions has about 15 elements each; ten thousand parts have eight. */
const maxElements = 200_000

interface OpenElement {
  readonly name: string
  text: string
  readonly children: XmlElement[]
}

/** Throws InvalidAnswer. */
export function parseXml(document: string): XmlElement {
  const refuse = (why: string): never => {
    throw invalidAnswer(`the server's XML is malformed: ${why}`)
  }
  let at = document.charCodeAt(0) === 0xfeff ? 1 : 0
  const stack: OpenElement[] = []
  let root: XmlElement | undefined
  let elements = 0
  const close = (element: OpenElement): void => {
    const parent = stack.at(-1)
    if (parent === undefined) root = element
    else parent.children.push(element)
  }
  while (at < document.length) {
    const open = document.indexOf('<', at)
    const text = document.slice(at, open < 0 ? document.length : open)
    const top = stack.at(-1)
    if (top !== undefined) top.text += unescapeXml(text, refuse)
    else if (text.trim() !== '') refuse('text outside of the root element')
    if (open < 0) break
    const end = document.indexOf('>', open)
    if (end < 0) refuse('a tag does not end')
    const first = document[open + 1]
    at = end + 1
    if (first === '?') {
      if (root !== undefined || stack.length > 0 || document[end - 1] !== '?')
        refuse('a processing instruction')
      continue
    }
    if (first === '!') refuse('a declaration, comment or CDATA section')
    if (first === '/') {
      const element = stack.pop()
      const name = localName(document.slice(open + 2, end).trim())
      if (element === undefined || element.name !== name) refuse('tags do not match')
      else close(element)
      continue
    }
    if (root !== undefined && stack.length === 0) refuse('more than one root element')
    const isEmpty = document[end - 1] === '/'
    const inside = document.slice(open + 1, isEmpty ? end - 1 : end)
    const name = localName(/^[^\s]*/.exec(inside)?.[0] ?? '')
    if (!/^[A-Za-z_][\w.-]*$/.test(name)) refuse('a bad name')
    elements += 1
    if (elements > maxElements) refuse('too many elements')
    const element: OpenElement = { name, text: '', children: [] }
    if (isEmpty) close(element)
    else {
      stack.push(element)
      if (stack.length > maxDepth) refuse('too deep')
    }
  }
  if (root === undefined || stack.length > 0) return refuse('it ends early')
  return root
}

const localName = (name: string): string => name.slice(name.indexOf(':') + 1)

const entities: Readonly<Record<string, string>> = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'" }

function unescapeXml(text: string, refuse: (why: string) => never): string {
  if (!text.includes('&')) return text
  return text.replace(/&([^;&]{0,10});?/g, (whole, name: string) => {
    const known = Object.hasOwn(entities, name) ? entities[name] : undefined
    if (known !== undefined && whole.endsWith(';')) return known
    const number = /^#(?:x([0-9a-fA-F]{1,6})|(\d{1,7}))$/.exec(name)
    const code =
      number === null ? -1 : number[1] === undefined ? Number(number[2]) : Number.parseInt(number[1], 16)
    if (code < 0 || code > 0x10ffff || !whole.endsWith(';')) return refuse('an unknown entity')
    return String.fromCodePoint(code)
  })
}

export const childrenOf = (element: XmlElement, name: string): readonly XmlElement[] =>
  element.children.filter((child) => child.name === name)

/** Of the first child of that name; undefined when there is none. */
export const textOf = (element: XmlElement, name: string): string | undefined =>
  element.children.find((child) => child.name === name)?.text

/** A number of bytes or parts. Throws InvalidAnswer for what is none. */
export function numberOf(element: XmlElement, name: string): number {
  const text = textOf(element, name)?.trim() ?? ''
  if (!/^\d{1,16}$/.test(text)) throw invalidAnswer(`${name} is not a number: ${text.slice(0, 32)}`)
  return Number(text)
}

/** A name under `encoding-type=url`. Some servers write a space as a plus sign. */
export function urlDecoded(text: string): string {
  try {
    return decodeURIComponent(text.replaceAll('+', ' '))
  } catch {
    throw invalidAnswer('a name is not URL-encoded')
  }
}

/** An element of a request document. Characters that XML 1.0 cannot have become references, which servers here accept. */
export function xmlElement(name: string, text: string | number): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what must be escaped
  const escaped = `${text}`.replace(/[&<>"\u0000-\u001f]/g, (character) => `&#${character.charCodeAt(0)};`)
  return `<${name}>${escaped}</${name}>`
}
