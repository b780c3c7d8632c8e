import { configJsonSchema } from './describe.ts'

/** What the schema says of a key beyond its type. A mark of a section holds for its keys until one of them says otherwise. */
export interface ConfigMarks {
  /** Each node has its own: it is refused in the region's configuration. */
  readonly 'x-pando-node'?: boolean
  /** Counts at once when it changes while a node runs. */
  readonly 'x-pando-hot'?: boolean
}

interface Marked extends ConfigMarks {
  readonly properties?: Readonly<Record<string, Marked>>
}

let schema: Marked | undefined
const root = (): Marked => {
  schema ??= configJsonSchema() as Marked
  return schema
}

/** Of a dotted key: its own mark, or that of the nearest section around it. */
export function markOf(path: string, mark: keyof ConfigMarks): boolean | undefined {
  let found: boolean | undefined
  let at: Marked | undefined = root()
  for (const name of path.split('.')) {
    at = at?.properties?.[name]
    found = at?.[mark] ?? found
  }
  return found
}

/** Whether the schema knows the first name of a dotted key: what it does not know is told as any other unknown key. */
export const typeExists = (path: string): boolean =>
  root().properties?.[path.split('.')[0] ?? ''] !== undefined
