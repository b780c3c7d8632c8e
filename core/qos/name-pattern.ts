/** Matches a whole name; `*` stands for any run of characters. Case counts. */
export type NameMatcher = (name: string) => boolean

/** In linear time for every input: patterns come from the configuration, names from strangers. */
export function nameMatcher(pattern: string): NameMatcher {
  if (pattern === '*') return () => true
  const [head = '', ...rest] = pattern.split('*')
  if (rest.length === 0) return (name) => name === pattern
  const tail = rest.pop() ?? ''
  return (name) => {
    if (name.length < head.length + tail.length || !name.startsWith(head) || !name.endsWith(tail))
      return false
    let from = head.length
    const end = name.length - tail.length
    // The leftmost place of each inner part leaves most room for those after it.
    for (const part of rest) {
      const at = name.indexOf(part, from)
      if (at < 0 || at + part.length > end) return false
      from = at + part.length
    }
    return true
  }
}
