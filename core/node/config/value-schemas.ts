import { z } from 'zod'
import { parseListen } from './addresses.ts'
import { parseDuration, parseSize } from './quantities.ts'

/** An address to listen on, `host:port`. */
export const listen = z.string().transform((value, context) => {
  const address = parseListen(value)
  if (address === undefined) {
    context.addIssue({
      code: 'custom',
      message: `'${value}' is not an address; write host:port, for example 127.0.0.1:9000 (port 0: any free one)`,
    })
    return z.NEVER
  }
  return address
})

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
