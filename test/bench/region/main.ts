// A region of three nodes with three copies against one node, on one machine: latency and processor time of each request.
// Usage: npm run bench -- region [rounds [seconds]]. Needs root and nats-server: the nodes are hosts in namespaces of their own.
import { resolve } from 'node:path'
import { runInOwnNamespaces } from '../../kit/region/own-namespaces.ts'
import { describeMachine } from '../machine.ts'

console.log(describeMachine())
console.log(
  await runInOwnNamespaces(resolve(import.meta.dirname, 'measure.js'), process.argv.slice(2), 1_800_000),
)
