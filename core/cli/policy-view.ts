import { open } from 'node:fs/promises'
import { resolve } from 'node:path'
import { StorageError } from '../contract/errors.ts'
import type { PolicyCounters } from '../contract/policy-deployment.ts'
import type { ExplainedRequestMessage, PolicyStatusMessage } from '../control/policy-messages.ts'
import { formatSize } from '../node/config/quantities.ts'
import { connect, type GlobalOptions } from './connect.ts'
import { exitCodes } from './exit-codes.ts'
import { wholeNumber } from './policy-module.ts'
import { facts, formatTime, type Terminal, table } from './terminal.ts'

/** Exit code 7 when a version does not serve as it is deployed. */
export async function showPolicyStatus(terminal: Terminal, options: GlobalOptions): Promise<number> {
  using admin = await connect(terminal, options)
  const status = await admin.policies.status()
  const failed = status.policies.filter(({ failure }) => failure !== null)
  const isWrong = failed.length > 0 || status.unavailable !== ''
  const code = isWrong ? exitCodes.findings[0] : exitCodes.ok[0]
  if (options.json === true) {
    terminal.out(`${JSON.stringify({ ...status, skew: skewOf(status) })}\n`)
    return code
  }
  const skew = skewOf(status)
  terminal.out(
    facts([
      [
        'Epoch',
        `${status.epoch}${skew === 0 ? '' : `, ${skew} behind the region's ${status.deployedEpoch}`}`,
      ],
      ['Signatures', status.signatureRequired ? 'required' : 'not required'],
      ...(status.unavailable === '' ? [] : [['Unavailable', status.unavailable] as const]),
    ]),
  )
  if (status.policies.length > 0) terminal.out(`\n${versionTable(status)}`)
  const counters = counterRows(status)
  if (counters.length > 0) {
    terminal.out(
      `\n${table(
        [
          'policy',
          'hook',
          'calls',
          'decided',
          'abstained',
          'traps',
          'invalid',
          'mean',
          'p99',
          'fuel',
          'differed',
        ].map((title, index) => (index < 2 ? { title } : { title, align: 'right' as const })),
        counters,
      )}`,
    )
  }
  for (const { name, version, failure } of failed) {
    terminal.out(`\n${name} ${version}: not ${failure?.stage ?? ''}: ${failure?.reason ?? ''}\n`)
  }
  for (const { digest, reason, strikes, untilMs } of status.quarantine) {
    terminal.out(
      `\nquarantine: ${digest.slice(0, 12)} until ${formatTime(untilMs)}, strike ${strikes}: ${reason}\n`,
    )
  }
  return code
}

const skewOf = ({ epoch, deployedEpoch }: PolicyStatusMessage): number => deployedEpoch - epoch

function versionTable({ policies }: PolicyStatusMessage): string {
  return table(
    [
      { title: 'policy' },
      { title: 'version' },
      { title: 'digest' },
      { title: 'share', align: 'right' },
      { title: 'stage' },
      { title: 'since' },
      { title: 'hooks' },
    ],
    policies.map(({ name, version, digest, percent, stage, sinceMs, hooks, failure }) => [
      name,
      version === '' ? '?' : version,
      digest.slice(0, 12),
      `${percent} %`,
      failure === null ? stage : `not ${failure.stage}`,
      sinceMs === 0 ? '-' : formatTime(sinceMs),
      hooks.join(' '),
    ]),
  )
}

function counterRows({ policies }: PolicyStatusMessage): readonly (readonly string[])[] {
  return policies.flatMap(({ name, version, counters }) =>
    Object.entries(counters)
      .filter(([, { calls }]) => calls > 0)
      .map(([hook, each]) => [`${name} ${version}`, hook, ...counterCells(each)]),
  )
}

function counterCells(counters: PolicyCounters): readonly string[] {
  const { calls, decisions, abstentions, traps, invalidOutputs, samples, sampledNs, sampledFuel, p99Ns } =
    counters
  const mean = (sum: number) => (samples === 0 ? '-' : String(Math.round(sum / samples)))
  return [
    String(calls),
    String(decisions),
    String(abstentions),
    String(traps),
    String(invalidOutputs),
    samples === 0 ? '-' : `${mean(sampledNs)} ns`,
    samples === 0 ? '-' : `${Math.round(p99Ns)} ns`,
    mean(sampledFuel),
    counters.compared === 0 ? '-' : `${counters.differed} of ${counters.compared}`,
  ]
}

export async function listPolicies(terminal: Terminal, options: GlobalOptions): Promise<number> {
  using admin = await connect(terminal, options)
  const { deployment, packages } = await admin.policies.list()
  if (options.json === true) {
    terminal.out(`${JSON.stringify({ deployment, packages })}\n`)
    return exitCodes.ok[0]
  }
  if (packages.length === 0) {
    terminal.out("no packages: make one with 'pando policy init NAME' and 'pando policy push'\n")
    return exitCodes.ok[0]
  }
  const use = (digest: string): string => {
    for (const { versions, history } of deployment?.policies ?? []) {
      const serving = versions.find((version) => version.digest === digest)
      if (serving !== undefined) return serving.percent === 0 ? 'shadow' : `${serving.percent} %`
      if (history.some((version) => version.digest === digest)) return 'history'
    }
    return '-'
  }
  terminal.out(
    table(
      [
        { title: 'policy' },
        { title: 'version' },
        { title: 'digest' },
        { title: 'size', align: 'right' },
        { title: 'serves' },
        { title: 'pushed' },
        { title: 'signed by' },
      ],
      packages.map(({ name, version, digest, byteLength, pushedMs, signedBy, builtin }) => [
        name,
        version,
        digest.slice(0, 12),
        formatSize(byteLength),
        use(digest),
        builtin ? 'built-in' : formatTime(pushedMs),
        signedBy === '' ? '-' : signedBy.slice(0, 16),
      ]),
    ),
  )
  return exitCodes.ok[0]
}

export interface ExplainOptions extends GlobalOptions {
  readonly hook?: string
  readonly last: string
}

export async function explainPolicy(
  terminal: Terminal,
  options: ExplainOptions,
  requestId = '',
): Promise<number> {
  if (requestId !== '' && options.hook !== undefined) {
    throw new StorageError('INVALID_ARGUMENT', 'a request id or --hook, not both')
  }
  const recent = wholeNumber(options.last, '--last', 1, 100)
  using admin = await connect(terminal, options)
  const { requests, decisions } = await admin.policies.explain(
    requestId !== '' ? { requestId } : options.hook !== undefined ? { hook: options.hook } : { recent },
  )
  if (options.json === true) {
    terminal.out(
      `${JSON.stringify(options.hook === undefined ? { requests } : { decisions: decisions.map(parsed) })}\n`,
    )
    return exitCodes.ok[0]
  }
  const [first] = requests
  if (requestId !== '' && first !== undefined) terminal.out(describeRequest(first))
  else if (options.hook !== undefined) {
    for (const { atMs, policy, reason, reasonText, input, decision } of decisions) {
      terminal.out(
        `${formatTime(atMs)}  ${policy}  ${reasonOf(reason, reasonText)}\n  asked    ${input}\n  decided  ${decision}\n`,
      )
    }
    if (decisions.length === 0) terminal.out('no sampled call: one in 64 is\n')
  } else if (requests.length === 0) terminal.out('no request yet\n')
  else terminal.out(requestTable(requests))
  return exitCodes.ok[0]
}

const parsed = <T extends { readonly input: string; readonly decision: string }>(decision: T) => ({
  ...decision,
  input: JSON.parse(decision.input === '' ? 'null' : decision.input) as unknown,
  decision: JSON.parse(decision.decision === '' ? 'null' : decision.decision) as unknown,
})

const reasonOf = (reason: number, text: string): string =>
  text === '' ? `reason ${reason}` : `${text} (${reason})`
const milliseconds = (value: number): string => `${value.toFixed(value < 10 ? 1 : 0)} ms`

function requestTable(requests: readonly ExplainedRequestMessage[]): string {
  return table(
    [
      { title: 'request' },
      { title: 'time' },
      { title: 'operation' },
      { title: 'tenant' },
      { title: 'class' },
      { title: 'admitted by' },
      { title: 'queued', align: 'right' },
      { title: 'outcome' },
    ],
    requests.map(
      ({ requestId, atMs, operation, tenant, class: name, admittedBy, queuedMs, outcome, reason }) => [
        requestId,
        formatTime(atMs),
        operation,
        tenant,
        name,
        admittedBy,
        milliseconds(queuedMs),
        reason === '' ? outcome : `${outcome}: ${reason}`,
      ],
    ),
  )
}

function describeRequest(request: ExplainedRequestMessage): string {
  const noBudget = request.tokens >= 1e9
  return facts([
    ['Request', request.requestId],
    ['Time', formatTime(request.atMs)],
    ['Operation', `${request.operation} ${request.bucket}`.trim()],
    ['Tenant', request.tenant],
    ['Body', request.byteLength < 0 ? 'of unknown size' : formatSize(request.byteLength)],
    ['Class', `${request.class}, priority ${request.priority}`],
    [
      'Classified by',
      `${request.classifiedBy}: ${reasonOf(request.classifyReason, request.classifyReasonText)}`,
    ],
    ['Admitted by', `${request.admittedBy}: ${reasonOf(request.admitReason, request.admitReasonText)}`],
    [
      'Tokens',
      noBudget
        ? 'no budget applied'
        : `${request.tokens.toFixed(1)} left of the tightest budget, the next one in ${milliseconds(request.tokenWaitMs)}`,
    ],
    [
      'Queue',
      `${request.queueDepth} waited, ${request.inFlight} at work of at most ${request.concurrencyLimit}`,
    ],
    ['Waited', `${milliseconds(request.queuedMs)} for its turn, ${milliseconds(request.pacedMs)} for bytes`],
    ['Outcome', request.reason === '' ? request.outcome : `${request.outcome}: ${request.reason}`],
  ])
}

export interface RecordOptions extends GlobalOptions {
  readonly output?: string
}

export async function recordPolicies(terminal: Terminal, options: RecordOptions): Promise<number> {
  using admin = await connect(terminal, options)
  const pieces = admin.policies.record()
  if (options.output === undefined) {
    for await (const { lines } of pieces) terminal.out(lines)
    return exitCodes.ok[0]
  }
  const path = resolve(terminal.workingDirectory, options.output)
  let calls = -1
  const file = await open(path, 'w').catch((error: unknown) => {
    throw new StorageError('INVALID_ARGUMENT', `cannot write ${path}: ${StorageError.from(error).reason}`)
  })
  try {
    for await (const { lines } of pieces) {
      calls += lines.split('\n').length - 1
      await file.write(lines)
    }
  } finally {
    await file.close()
  }
  const recorded = Math.max(0, calls)
  terminal.out(
    options.json === true
      ? `${JSON.stringify({ file: path, calls: recorded })}\n`
      : `${recorded} calls in ${path}\n`,
  )
  return exitCodes.ok[0]
}
