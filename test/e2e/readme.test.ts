import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import { type NodeProcess, runCommand, startNode } from '../kit/node-process.ts'
import { missing } from './workspace.ts'

/** The fenced blocks of the section "The first minute", as a reader would copy them. */
function firstMinute(): readonly { readonly language: string; readonly text: string }[] {
  const section = /## The first minute\n([\s\S]*?)\n## /.exec(readFileSync('README.md', 'utf8'))?.[1] ?? ''
  return [...section.matchAll(/^```(\w+)\n([\s\S]*?)^```$/gm)].map(([, language = '', text = '']) => ({
    language,
    text,
  }))
}

const clients = missing('/usr/bin/aws', '/usr/bin/rclone', '/usr/bin/python3')

suite('what the README tells a newcomer to type', { skip: clients, timeout: 300_000 }, () => {
  let node: NodeProcess
  let home: string
  before(async () => {
    node = await startNode()
    home = join(node.dataDirectory, '..', 'home')
    await mkdir(join(home, 'documents'), { recursive: true })
    await writeFile(join(home, 'documents/letter.txt'), 'dear reader\n')
    await writeFile(join(home, 'cat.jpg'), 'a cat')
  })
  after(async () => {
    await node?.[Symbol.asyncDispose]()
  })

  /** Runs a block in the newcomer's home, with this node's address and keys in place of the ones shown. */
  const run = async (program: string, text: string) => {
    const script = text
      .replaceAll('http://127.0.0.1:9000', node.endpoint)
      .replace(/^export AWS_ACCESS_KEY_ID=.*$/m, '')
    const outcome = await runCommand(program, program.endsWith('bash') ? ['-euo', 'pipefail'] : [], {
      input: script.replaceAll(
        'npx pando',
        `${process.execPath} ${join(process.cwd(), 'dist/core/cli/main.js')}`,
      ),
      cwd: home,
      env: {
        PATH: '/usr/bin:/bin',
        HOME: home,
        PANDO_DATA: node.dataDirectory,
        AWS_ACCESS_KEY_ID: node.accessKey,
        AWS_SECRET_ACCESS_KEY: node.secretKey,
        AWS_DEFAULT_REGION: 'us-east-1',
      },
    })
    assert.equal(outcome.code, 0, `${script}\n${outcome.stdout}\n${outcome.stderr}`)
    return outcome.stdout
  }

  const blocks = firstMinute()
  const block = (language: string, mark: string) => {
    const found = blocks.find((candidate) => candidate.language === language && candidate.text.includes(mark))
    assert.ok(found, `the README has no ${language} block with ${mark}`)
    return found.text
  }

  test('AWS CLI: make a bucket, copy a file, list it', async () => {
    assert.match(await run('/usr/bin/bash', block('sh', 's3 mb')), / cat\.jpg$/m)
  })

  test('boto3: put and get', async () => {
    assert.equal(await run('/usr/bin/python3', block('python', 'boto3')), "b'remember the milk'\n")
  })

  test('rclone: synchronize a folder', async () => {
    await run('/usr/bin/bash', block('sh', 'rclone sync'))
    assert.match(await run('/usr/bin/bash', 'rclone ls pando:documents\n'), /^ +12 letter\.txt$/m)
  })

  test('pando: status, one more key, a bucket, a scrub', async () => {
    const output = await run('/usr/bin/bash', block('sh', 'npx pando status'))
    assert.match(output, /^State +ready$/m)
    assert.match(output, /^photos: 1 object, /m)
    assert.match(output, /0 findings/)
  })
})
