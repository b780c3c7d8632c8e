/** The median of independent values, and the interval that holds the true one 95 times out of 100, whatever their distribution. */
export interface BoundedMedian {
  readonly middle: number
  readonly low: number
  readonly high: number
}

/**
 * Bounds by order statistics: how many of n values are below the true median is binomial, n/2 +- 1.96 sqrt(n)/2. Nothing is
 * assumed about the noise of a shared machine but that it hits both sides of a round alike.
 */
export function medianWithBounds(values: readonly number[]): BoundedMedian {
  const sorted = values.toSorted((left, right) => left - right)
  const at = (index: number): number => sorted[Math.min(sorted.length - 1, Math.max(0, index))] ?? Number.NaN
  const half = sorted.length / 2
  const spread = 0.98 * Math.sqrt(sorted.length)
  return {
    middle: (at(Math.floor((sorted.length - 1) / 2)) + at(Math.ceil((sorted.length - 1) / 2))) / 2,
    low: at(Math.floor(half - spread) - 1),
    high: at(Math.ceil(half + spread)),
  }
}
