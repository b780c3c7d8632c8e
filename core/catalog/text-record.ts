import { z } from 'zod'

/** Texts by names that clients give. By hand: `z.record` leaves one named `__proto__` out, unchecked and without a word. */
export const textRecord = (maxLength = Number.POSITIVE_INFINITY) =>
  z.custom<Readonly<Record<string, string>>>(
    (value) =>
      isRecord(value) &&
      Object.entries(value).every(
        ([name, text]) => name.length <= maxLength && typeof text === 'string' && text.length <= maxLength,
      ),
    'expected texts by their names',
  )

const isRecord = (value: unknown): value is object =>
  typeof value === 'object' && value !== null && !Array.isArray(value) && !ArrayBuffer.isView(value)
