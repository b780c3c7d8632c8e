// A region of six nodes: objects of 16 MiB as three copies and as fragments of 4+2, also read with one node away, in one run.
// Usage: npm run bench -- erasure [rounds [requests]]. Needs root and nats-server: the nodes are hosts in namespaces of their own.
import { resolve } from 'node:path'
import { runInOwnNamespaces } from '../../kit/region/own-namespaces.ts'
import { describeMachine } from '../machine.ts'

console.log(describeMachine())
console.log(
  await runInOwnNamespaces(resolve(import.meta.dirname, 'measure.js'), process.argv.slice(2), 1_800_000),
)
