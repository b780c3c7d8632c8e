/**
 * Wildcard patterns of policies: `*` stands for any run of characters, `?` for exactly one, and `${name}` for a value of
 * the request (2012-10-17 policies only). Matching goes over the text once and backtracks only to the last `*`, so its
 * cost is at most pattern length times text length; no regular expression is ever built from a client's document.
 */
export interface Pattern {
  readonly tokens: readonly Token[]
  /** The pattern ready to match, where no variable has to be put in first: nearly always. */
  readonly fixed: readonly Atom[] | undefined
}

/** One character, `one` or `many`. */
type Atom = string | typeof many | typeof one

const many = Symbol('many')
const one = Symbol('one')

type Token =
  | { readonly kind: 'char'; readonly char: string }
  | { readonly kind: 'one' }
  | { readonly kind: 'many' }
  | { readonly kind: 'variable'; readonly name: string; readonly fallback: string | undefined }

/** The value of a policy variable, or undefined when the request has none (the pattern then matches nothing). */
export type Variables = (name: string) => string | undefined

const noVariables: Variables = () => undefined

export interface PatternOptions {
  readonly wildcards: boolean
  readonly variables: boolean
}

export function compilePattern(source: string, options: PatternOptions): Pattern {
  const tokens: Token[] = []
  for (let index = 0; index < source.length; ) {
    if (options.variables && source.startsWith('${', index)) {
      const end = source.indexOf('}', index)
      if (end > 0) {
        tokens.push(variable(source.slice(index + 2, end)))
        index = end + 1
        continue
      }
    }
    const char = source.charAt(index)
    if (options.wildcards && char === '*') {
      // Runs of stars are one star: keeps the backtracking bound honest.
      if (tokens.at(-1)?.kind !== 'many') tokens.push({ kind: 'many' })
    } else if (options.wildcards && char === '?') tokens.push({ kind: 'one' })
    else tokens.push({ kind: 'char', char })
    index += 1
  }
  return patternOf(tokens)
}

function patternOf(tokens: readonly Token[]): Pattern {
  const fixed = tokens.some((token) => token.kind === 'variable') ? undefined : expand(tokens, noVariables)
  return { tokens, fixed }
}

/** The same pattern with its characters in lower case. */
export function lowerCasePattern(pattern: Pattern): Pattern {
  return patternOf(
    pattern.tokens.map((token) =>
      token.kind === 'char' ? { kind: 'char', char: token.char.toLowerCase() } : token,
    ),
  )
}

function variable(body: string): Token {
  // ${*}, ${?} and ${$} are how a policy writes these characters themselves.
  if (body === '*' || body === '?' || body === '$') return { kind: 'char', char: body }
  const comma = body.indexOf(',')
  if (comma < 0) return { kind: 'variable', name: body.trim().toLowerCase(), fallback: undefined }
  const fallback = body
    .slice(comma + 1)
    .trim()
    .replace(/^'([^']*)'$/, '$1')
  return { kind: 'variable', name: body.slice(0, comma).trim().toLowerCase(), fallback }
}

export function matchPattern(pattern: Pattern, text: string, variables: Variables = noVariables): boolean {
  const tokens = pattern.fixed ?? expand(pattern.tokens, variables)
  if (tokens === undefined) return false
  let position = 0
  let token = 0
  let starToken = -1
  let starPosition = 0
  while (position < text.length) {
    const current = tokens[token]
    if (current === many) {
      starToken = token
      starPosition = position
      token += 1
    } else if (current === one || (current !== undefined && current === text.charAt(position))) {
      token += 1
      position += 1
    } else if (starToken >= 0) {
      // The last star takes one character more; stars before it never need to be tried again.
      starPosition += 1
      position = starPosition
      token = starToken + 1
    } else return false
  }
  while (tokens[token] === many) token += 1
  return token === tokens.length
}

/** Undefined when a variable has no value. */
function expand(tokens: readonly Token[], variables: Variables): readonly Atom[] | undefined {
  const out: Atom[] = []
  for (const token of tokens) {
    if (token.kind === 'char') out.push(token.char)
    else if (token.kind === 'many') out.push(many)
    else if (token.kind === 'one') out.push(one)
    else {
      const value = variables(token.name) ?? token.fallback
      if (value === undefined) return undefined
      // What a variable holds comes from the client: its characters are never wildcards.
      for (let index = 0; index < value.length; index += 1) out.push(value.charAt(index))
    }
  }
  return out
}
