import { z } from 'zod'
import { parseDuration, parseSize } from './quantities.ts'

/** Bytes, written as people do (`256MiB`), within bounds. */
export const size = (minimum: number, maximum = Number.MAX_SAFE_INTEGER) =>
  z.union([z.string(), z.number()]).transform((value, context) => {
    const bytes = parseSize(value)
    if (bytes === undefined) {
      context.addIssue({ code: 'custom', message: `'${value}' is not a size; write for example 256MiB` })
      return z.NEVER
    }
    if (bytes < minimum || bytes > maximum) {
      context.addIssue({
        code: 'custom',
        message: `${value} is ${bytes} bytes; it must be between ${minimum} and ${maximum} bytes`,
      })
      return z.NEVER
    }
    return bytes
  })

/** Milliseconds, written as people do (`30s`), within bounds. */
export const duration = (minimumMs: number, maximumMs = 10 * 365 * 86_400_000) =>
  z.union([z.string(), z.number()]).transform((value, context) => {
    const durationMs = parseDuration(value)
    if (durationMs === undefined) {
      context.addIssue({
        code: 'custom',
        message: `'${value}' is not a duration; write for example 30s or 14d`,
      })
      return z.NEVER
    }
    if (durationMs < minimumMs || durationMs > maximumMs) {
      context.addIssue({
        code: 'custom',
        message: `${value} is ${durationMs} ms; it must be between ${minimumMs} and ${maximumMs} ms`,
      })
      return z.NEVER
    }
    return durationMs
  })
