import { XMLParser } from 'fast-xml-parser'

/** One case of a pytest run, from its JUnit report. */
export interface PytestCase {
  /** `test_name[parameter]`. */
  readonly name: string
  readonly outcome: 'passed' | 'failed' | 'error' | 'skipped'
  /** The failure's first line, then its text; empty when passed. */
  readonly message: string
  readonly detail: string
  readonly seconds: number
}

interface Element {
  readonly [name: string]: unknown
}

/** Parses what `pytest --junitxml=FILE` wrote. A case that fails in the test and again in teardown appears once. */
export function parsePytestReport(xml: string): PytestCase[] {
  const parser = new XMLParser({
    ignoreAttributes: false,
    attributeNamePrefix: '@',
    isArray: (name) => name === 'testcase' || name === 'testsuite',
    // Failure texts quote XML documents; as entities they count against the parser's expansion guard.
    processEntities: false,
    htmlEntities: false,
  })
  const document = parser.parse(xml) as { testsuites?: { testsuite?: Element[] } }
  const byName = new Map<string, PytestCase>()
  for (const suite of document.testsuites?.testsuite ?? []) {
    for (const element of (suite['testcase'] as Element[] | undefined) ?? []) {
      const found = parseCase(element)
      const known = byName.get(found.name)
      if (!known || known.outcome === 'passed') byName.set(found.name, found)
    }
  }
  return [...byName.values()]
}

function parseCase(element: Element): PytestCase {
  const name = decode(String(element['@name']))
  const seconds = Number(element['@time'] ?? 0)
  for (const [tag, outcome] of [
    ['failure', 'failed'],
    ['error', 'error'],
    ['skipped', 'skipped'],
  ] as const) {
    const raw = element[tag]
    const child = (Array.isArray(raw) ? raw[0] : raw) as Element | undefined
    if (child === undefined) continue
    const message = decode(String(child['@message'] ?? '')).trim()
    return { name, outcome, message, detail: decode(String(child['#text'] ?? '')), seconds }
  }
  return { name, outcome: 'passed', message: '', detail: '', seconds }
}

const entities: Readonly<Record<string, string>> = { lt: '<', gt: '>', quot: '"', apos: "'", amp: '&' }

function decode(text: string): string {
  return text.replace(/&(?:#x([0-9a-fA-F]+)|#(\d+)|(\w+));/g, (whole, hex, decimal, name) => {
    if (hex) return String.fromCodePoint(Number.parseInt(hex, 16))
    if (decimal) return String.fromCodePoint(Number(decimal))
    return entities[name] ?? whole
  })
}
