import { z } from 'zod'
import { duration, size } from './value-schemas.ts'

const traces = z
  .strictObject({
    endpoint: z
      .union([z.literal(''), z.url({ protocol: /^https?$/ })])
      .default('')
      .describe(
        'Where traces go: base URL of a collector that takes OTLP over HTTP, such as http://127.0.0.1:4318 (/v1/traces is added unless ' +
          'the URL has a path). Empty: nothing is traced. Env: PANDO_TRACES_ENDPOINT.',
      ),
    ratio: z
      .number()
      .min(0)
      .max(1)
      .default(0)
      .describe(
        'Share of requests that begin a trace, 0 to 1. Requests that bring a traceparent follow its decision, whatever is told here.',
      ),
  })
  .prefault({})
  .describe('Traces of requests over gateway, catalog and the nodes that hold chunks.')

const audit = z
  .strictObject({
    file: z
      .string()
      .default('')
      .describe('Where the audit log is written; relative to the config file. Empty: nowhere.'),
    s3: z
      .enum(['none', 'changes'])
      .default('none')
      .describe(
        'Which S3 requests are in it, beside admin calls. changes: those that change data or rights.',
      ),
    maxSize: size(4096).prefault('64MiB').describe('The file is put aside when it has so many bytes.'),
    keep: z.int().min(0).max(1000).default(10).describe('Files that are kept beside the current one.'),
  })
  .prefault({})
  .describe('Who did what to what: one line of JSON each, chained by hashes (core/node/audit/README.md).')

const share = z.number().gt(0).lt(1)

const objectives = z
  .record(
    z.string(),
    z.strictObject({
      availability: share
        .default(0.999)
        .describe('Share of requests of the class without an error of ours; what was shed counts as one.'),
      latency: duration(0, 3_600_000)
        .prefault('0s')
        .describe(
          'How long a request may take, from its head to the last byte of the answer. 0s: as long as it takes.',
        ),
      latencyShare: share.default(0.99).describe('Share of requests without an error that take no longer.'),
    }),
  )
  .prefault({})
  .describe(
    'Objectives by class of requests (qos.classes): error budgets and burn rates are metrics, and `pando status` tells them.',
  )

/** Of the whole configuration: an objective is for a class that there is. */
export function checkObjectives(
  config: {
    readonly telemetry: { readonly objectives: Readonly<Record<string, unknown>> }
    readonly qos: { readonly enabled: boolean; readonly classes: Readonly<Record<string, unknown>> }
  },
  context: z.RefinementCtx,
): void {
  const { telemetry, qos } = config
  for (const name of Object.keys(telemetry.objectives)) {
    const message = !qos.enabled
      ? 'requests have no class: qos.enabled is false'
      : `no class of requests is called ${name} (qos.classes)`
    if (!qos.enabled || !(name in qos.classes))
      context.addIssue({ code: 'custom', path: ['telemetry', 'objectives', name], message })
  }
}

export const telemetrySection = z
  .strictObject({ traces, audit, objectives })
  .prefault({})
  .describe('What is told to other systems of what happens here.')
