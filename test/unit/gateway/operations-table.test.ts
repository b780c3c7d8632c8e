import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { test } from 'node:test'
import { routes } from '../../../core/gateway/s3/operations.ts'
import { unconfiguredRoutes } from '../../../core/gateway/s3/unconfigured.ts'

const documentation = 'core/gateway/s3/OPERATIONS.md'

test(`${documentation} names every operation once, where it belongs`, () => {
  const text = readFileSync(resolve(import.meta.dirname, '../../../..', documentation), 'utf8')
  const named = { served: [] as string[], unset: [] as string[] }
  for (const line of text.split('\n')) {
    const [, about, served, unset] = line.split('|')
    if (unset === undefined || about === undefined) continue
    for (const [column, cell] of [
      ['served', served],
      ['unset', unset],
    ] as const) {
      for (const [, name] of (cell ?? '').matchAll(/`([A-Za-z0-9]+)`/g)) named[column].push(name ?? '')
    }
  }
  // The payer can be set, to the one value that has a meaning.
  const isUnset = (name: string): boolean => !name.includes('RequestPayment')
  const unset = new Set(unconfiguredRoutes.map(({ operation }) => operation.name).filter(isUnset))
  const all = new Set(routes.map(({ operation }) => operation.name))
  assert.deepEqual([...named.unset].sort(), [...unset].sort())
  assert.deepEqual([...named.served].sort(), [...all].filter((name) => !unset.has(name)).sort())
})
