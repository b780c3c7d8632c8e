/** One series at one moment. */
export interface MetricSample {
  readonly name: string
  readonly labels: Readonly<Record<string, string>>
  readonly value: number
}

/** What a node tells Prometheus, to be looked up. */
export class MetricSet {
  readonly samples: readonly MetricSample[]
  readonly #byName = new Map<string, MetricSample[]>()

  constructor(samples: readonly MetricSample[]) {
    this.samples = samples
    for (const sample of samples) {
      const same = this.#byName.get(sample.name)
      if (same === undefined) this.#byName.set(sample.name, [sample])
      else same.push(sample)
    }
  }

  /** The series of a name whose labels are (at least) these. */
  all(name: string, labels: Readonly<Record<string, string>> = {}): readonly MetricSample[] {
    const wanted = Object.entries(labels)
    return (this.#byName.get(name) ?? []).filter((sample) =>
      wanted.every(([label, value]) => sample.labels[label] === value),
    )
  }

  /** Their sum; 0 without any. */
  sum(name: string, labels: Readonly<Record<string, string>> = {}): number {
    return this.all(name, labels).reduce((sum, { value }) => sum + value, 0)
  }
}

const line = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? ([^ ]+)(?: \d+)?$/
const label = /([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"/g

/** Prometheus's text format, version 0.0.4. Lines that are none are left out. */
export function parseMetrics(text: string): MetricSet {
  const samples: MetricSample[] = []
  for (const each of text.split('\n')) {
    if (each === '' || each.startsWith('#')) continue
    const match = line.exec(each)
    if (match === null) continue
    const labels: Record<string, string> = {}
    for (const [, name = '', value = ''] of (match[2] ?? '').matchAll(label)) {
      labels[name] = value.replace(/\\(.)/g, (_all, mark: string) => (mark === 'n' ? '\n' : mark))
    }
    samples.push({ name: match[1] ?? '', labels, value: numberOf(match[3] ?? '') })
  }
  return new MetricSet(samples)
}

const numberOf = (text: string): number =>
  text === '+Inf' ? Number.POSITIVE_INFINITY : text === '-Inf' ? Number.NEGATIVE_INFINITY : Number(text)
