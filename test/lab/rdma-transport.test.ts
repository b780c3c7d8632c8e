import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'node:test'
import { XMLParser } from 'fast-xml-parser'
import { bootGuest } from './guest.ts'
import { whyNoLab } from './kernel.ts'

const binary = 'native/build/release/test/rpc_transport_rdma_lab_test'
const notBuilt = `${binary} is not built: libibverbs-dev, librdmacm-dev or libgtest-dev is missing (npm run setup)`
const why = whyNoLab() ?? (existsSync(binary) ? undefined : notBuilt)

/** Node's own runner in the guest; its report comes back in the output. */
const node = (file: string, seconds: number): string =>
  `PANDO_FRAMES=2000 timeout ${seconds} ${process.execPath} --test-reporter=tap dist/test/lab/inside/${file}.js`

test('the rdma transport over Soft-RoCE', { skip: why ?? false, timeout: 890_000 }, async (context) => {
  await using guest = await bootGuest({
    timeoutMs: 860_000,
    jobs: [
      { name: 'all', script: `timeout 400 ${binary} --gtest_output=xml:$SHARE/all.xml` },
      {
        name: 'removal',
        script: `timeout 60 ${binary} --gtest_output=xml:$SHARE/removal.xml \\
          --gtest_also_run_disabled_tests --gtest_filter='*RemovalOfTheDevice*'`,
      },
      {
        name: 'added-again',
        script: `for attempt in $(seq 100); do rdma link show | grep -q rxe1 || break; sleep 0.1; done
          rdma link add rxe1 type rxe netdev peer1 || exit
          timeout 60 ${binary} --gtest_output=xml:$SHARE/added-again.xml --gtest_filter='*FramesOfAllSizes*'`,
      },
      { name: 'kit', script: node('rdma-kit', 400) },
      { name: 'switching', script: node('rdma-switching', 180) },
    ],
  })
  for (const [job, atLeast] of Object.entries({ all: 15, removal: 1, 'added-again': 1 })) {
    const { code, output } = await guest.outcome(job)
    const report = join(guest.share, `${job}.xml`)
    assert.ok(existsSync(report), `no report of ${job} (exit ${code})\n${output}\n${guest.postMortem()}`)
    const cases = readCases(readFileSync(report, 'utf8'))
    assert.ok(cases.length >= atLeast, output)
    for (const { name, seconds, failure } of cases) {
      await context.test(`${job}: ${name}`, (of) => {
        of.diagnostic(`${seconds} s`)
        assert.equal(failure, undefined, `${failure}\n${guest.postMortem()}`)
      })
    }
    assert.ok(code === 0 || cases.some(({ failure }) => failure !== undefined), output)
  }
  for (const [job, atLeast] of Object.entries({ kit: 26, switching: 1 })) {
    const { code, output } = await guest.outcome(job)
    const { cases, remarks } = readTap(output)
    assert.ok(cases.length >= atLeast, `${job} (exit ${code})\n${output}\n${guest.postMortem()}`)
    for (const { name, passed } of cases) {
      await context.test(`${job}: ${name}`, () => assert.ok(passed, `${output}\n${guest.postMortem()}`))
    }
    for (const remark of remarks) context.diagnostic(`${job}: ${remark}`)
    assert.equal(code, 0, output)
  }
})

interface Case {
  readonly name: string
  readonly seconds: string
  readonly failure: string | undefined
}

/** GoogleTest's own report: a case failed if it has a `failure`; what is disabled did not run. */
function readCases(xml: string): readonly Case[] {
  const parser = new XMLParser({
    ignoreAttributes: false,
    attributeNamePrefix: '',
    isArray: (name) => ['testsuite', 'testcase', 'failure'].includes(name),
  })
  const suites: Record<string, unknown>[] = parser.parse(xml)?.testsuites?.testsuite ?? []
  const rows = suites.flatMap((suite) => (suite['testcase'] ?? []) as Record<string, unknown>[])
  return rows
    .filter((row) => row['status'] === 'run')
    .map((row) => ({
      name: `${row['classname']}.${row['name']}`,
      seconds: String(row['time']),
      failure: row['failure'] === undefined ? undefined : JSON.stringify(row['failure'], null, 2),
    }))
}

/** The tests of one file as Node's runner reports them, and what they remarked. */
function readTap(output: string): {
  cases: readonly { name: string; passed: boolean }[]
  remarks: readonly string[]
} {
  const lines = output.split('\n')
  return {
    cases: lines.flatMap((line) => {
      const [, not, name] = /^(not )?ok \d+ - (.*)$/.exec(line) ?? []
      return name === undefined ? [] : [{ name, passed: not === undefined }]
    }),
    remarks: lines.flatMap((line) => {
      const remark =
        /^# ((?!Subtest|tests |suites |pass |fail |cancelled |skipped |todo |duration_ms ).*)$/.exec(
          line,
        )?.[1]
      return remark === undefined ? [] : [remark]
    }),
  }
}
