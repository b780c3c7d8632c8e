import { resolve } from 'node:path'
import { suite, test } from 'node:test'
import { withoutNative } from '../kit/node-process.ts'
import { runInOwnNamespaces, withoutNamespaces } from '../kit/region/own-namespaces.ts'
import { missing } from './workspace.ts'

/** Regions of several nodes, each on a host of its own; every scenario is a program of its own (region/*.scenario.ts). */
const boto3 = '/usr/lib/python3/dist-packages/boto3/__init__.py'
const skip = missing('/usr/sbin/nats-server', boto3) || withoutNative || withoutNamespaces()

/** How many regions at a time. One with its clients keeps two thirds of a core busy: its nodes wait for one another to die. */
const concurrency = 2

/** The longest first. */
const scenarios = {
  'a region loses a disk, grows by a node and shrinks by one': ['growth', 500_000],
  'five nodes: boto3 at all of them, two lost at once, a slow node, slow and full disks': [
    'five-nodes',
    400_000,
  ],
  'three nodes: killed, frozen and cut off one after the other': ['three-nodes', 500_000],
  'a failover group of a region of three nodes: its coordinator dies, all of it is lost, it comes back': [
    'failover',
    400_000,
  ],
  'a region goes on from one of three nodes after two were lost for good': ['recover', 240_000],
  'nodes find each other by A records, by SRV records and by multicast, and again after they have moved': [
    'discovery',
    470_000,
  ],
  'six nodes, 4+2: two are lost, one comes back empty, another one is lost': ['erasure', 240_000],
  'what orders the log dies, and loses everything that it had': ['lost-order', 400_000],
  'registers at three gateways are linearizable through all of it': ['registers', 400_000],
} as const

suite('regions of several nodes', { concurrency }, () => {
  for (const [name, [file, timeoutMs]] of Object.entries(scenarios)) {
    test(name, { skip, timeout: timeoutMs + 10_000 }, async (t) => {
      const script = resolve(import.meta.dirname, 'region', `${file}.scenario.js`)
      const printed = await runInOwnNamespaces(script, [], timeoutMs)
      for (const line of printed.trim().split('\n')) t.diagnostic(line)
    })
  }
})
