import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { createSocket } from 'node:dgram'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import {
  announcementKey,
  openAnnouncement,
  packetBytes,
  sealAnnouncement,
} from '../../../core/cluster/discovery/announcement.ts'
import { resolveDns } from '../../../core/cluster/discovery/dns.ts'
import { openMulticast } from '../../../core/cluster/discovery/multicast.ts'
import { parseDiscoverySource } from '../../../core/cluster/discovery/source.ts'
import { silentLogger } from '../../../core/contract/logger.ts'
import { realEnvironment } from '../../../core/node/environment.ts'
import { startDnsServer } from '../../kit/dns-server.ts'

const { randomness } = realEnvironment
const never = new AbortController().signal

test('a source of nodes is a DNS URI or multicast, and anything else is refused with what it should be', () => {
  assert.deepEqual(parseDiscoverySource('dns:pando.example'), {
    ...{ kind: 'dns', name: 'pando.example', type: 'address' },
  })
  assert.deepEqual(parseDiscoverySource('dns://127.0.0.1:5353/_pando._tcp.example?type=SRV'), {
    ...{ kind: 'dns', name: '_pando._tcp.example', type: 'srv', server: '127.0.0.1:5353' },
  })
  assert.deepEqual(parseDiscoverySource('dns://[::1]/a'), {
    ...{ kind: 'dns', name: 'a', type: 'address', server: '[::1]:53' },
  })
  assert.deepEqual(parseDiscoverySource('multicast'), {
    ...{ kind: 'multicast', group: '239.255.80.68', port: 9006 },
  })
  assert.deepEqual(parseDiscoverySource('multicast://239.1.2.3:99'), {
    ...{ kind: 'multicast', group: '239.1.2.3', port: 99 },
  })
  for (const [text, why] of [
    ['10.0.0.1:9005', /write dns:NAME/],
    ['dns:', /write dns:NAME/],
    ['dns:a b', /write dns:NAME/],
    ['dns:-a', /not a name/],
    ['dns:a?type=MX', /A, AAAA or SRV/],
    ['dns://ns.example/a', /an IP address/],
    ['dns://1.2.3.4:0/a', /not a port/],
    ['multicast://10.0.0.1', /not an IPv4 multicast group/],
    ['multicast://239.0.0.1:70000', /not a port/],
  ] as const) {
    assert.throws(() => parseDiscoverySource(text), why, text)
  }
})

test('A and AAAA records are addresses with the port of nodes, asked for anew each time', async () => {
  await using server = await startDnsServer()
  const source = { name: 'pando.test', type: 'address', server: server.address } as const
  server.records.set('pando.test', [
    { type: 'A', address: '10.0.0.1' },
    { type: 'A', address: '10.0.0.2' },
    { type: 'AAAA', address: 'fd00::7' },
  ])
  const found = await resolveDns(source, 9005, never)
  assert.deepEqual([...found].sort(), ['10.0.0.1:9005', '10.0.0.2:9005', '[fd00::7]:9005'])
  server.records.set('pando.test', [{ type: 'A', address: '10.0.0.9' }])
  assert.deepEqual(await resolveDns(source, 9005, never), ['10.0.0.9:9005'])
  await assert.rejects(
    resolveDns({ ...source, name: 'gone.test' }, 9005, never),
    /UNAVAILABLE: gone\.test: .*ENOTFOUND/,
  )
})

test('SRV records say their ports, in the order of their priorities; a target that is gone hides no other', async () => {
  await using server = await startDnsServer()
  server.records.set('_pando._tcp.test', [
    { type: 'SRV', priority: 2, port: 9105, target: 'n2.test' },
    { type: 'SRV', priority: 1, port: 9005, target: 'n1.test' },
    { type: 'SRV', priority: 3, port: 9205, target: 'lost.test' },
  ])
  server.records.set('n1.test', [{ type: 'A', address: '10.0.0.1' }])
  server.records.set('n2.test', [{ type: 'A', address: '10.0.0.2' }])
  const source = { name: '_pando._tcp.test', type: 'srv', server: server.address } as const
  assert.deepEqual(await resolveDns(source, 1, never), ['10.0.0.1:9005', '10.0.0.2:9105'])
})

test('a name server that does not answer is given up, and sooner when nobody waits any more', {
  timeout: 20_000,
}, async () => {
  await using server = await startDnsServer()
  server.isSilent = true
  const source = { name: 'pando.test', type: 'address', server: server.address } as const
  const beganMs = performance.now()
  await assert.rejects(resolveDns(source, 9005, never), /UNAVAILABLE: pando\.test: /)
  assert.ok(server.asked.length >= 2, `${server.asked}`)
  assert.ok(performance.now() - beganMs < 15_000)
  const stop = new AbortController()
  const asked = resolveDns(source, 9005, stop.signal)
  stop.abort(new Error('enough'))
  await assert.rejects(asked, /enough/)
})

test('an announcement is read with the key of the region only, and not when a bit has changed', () => {
  const key = announcementKey(randomBytes(32))
  const told = { name: 'n1', address: '10.0.0.1:9005' }
  const packet = sealAnnouncement(key, told, randomness)
  assert.deepEqual(openAnnouncement(key, packet), told)
  assert.equal(openAnnouncement(announcementKey(randomBytes(32)), packet), undefined)
  for (let at = 0; at < packet.length; at++) {
    const changed = Uint8Array.from(packet)
    changed[at] = (changed[at] ?? 0) ^ 1
    assert.equal(openAnnouncement(key, changed), undefined, `byte ${at}`)
  }
  assert.equal(openAnnouncement(key, packet.subarray(1)), undefined)
  assert.equal(openAnnouncement(key, new Uint8Array(0)), undefined)
})

test('an announcement tells a stranger nothing: neither words nor lengths, and no two are the same', () => {
  const key = announcementKey(randomBytes(32))
  const packets = [
    sealAnnouncement(key, { name: 'n1', address: '10.0.0.1:9005' }, randomness),
    sealAnnouncement(key, { name: 'n1', address: '10.0.0.1:9005' }, randomness),
    sealAnnouncement(key, { name: 'n'.repeat(32), address: `${'a'.repeat(255)}:65535` }, randomness),
  ]
  for (const packet of packets) {
    assert.equal(packet.length, packetBytes)
    assert.ok(!Buffer.from(packet).includes('10.0.0.1'))
  }
  assert.notDeepEqual(packets[0], packets[1])
})

test('nodes with the same key hear each other; strangers, garbage and what is sent again change nothing', {
  timeout: 60_000,
}, async () => {
  const group = '239.255.80.69'
  const free = createSocket('udp4')
  await new Promise<void>((resolve) => free.bind(0, '127.0.0.1', resolve))
  const { port } = free.address()
  free.close()
  const regionKey = randomBytes(32)
  const open = (name: string, key = regionKey) =>
    openMulticast({
      ...{ group, port, interfaceAddress: '127.0.0.1', regionKey: key },
      own: { name, address: `127.0.0.1:${name.length}` },
      environment: realEnvironment,
      log: silentLogger,
    })
  const [one, two, stranger] = [open('n1'), open('node-2'), open('stranger', randomBytes(32))]
  const thief = createSocket({ type: 'udp4', reuseAddr: true })
  const overheard: Buffer[] = []
  try {
    await new Promise<void>((resolve) => thief.bind(port, group, resolve))
    thief.setMulticastInterface('127.0.0.1')
    thief.addMembership(group, '127.0.0.1')
    thief.on('message', (packet, from) => {
      if (from.port === port) overheard.push(packet)
    })
    // The thief may have come after the first words: what is sent again is some of the next ones.
    while (one.heard().length === 0 || two.heard().length === 0 || overheard.length === 0) await sleep(20)
    const again = createSocket('udp4')
    again.bind(0, '127.0.0.1')
    for (const packet of [...overheard, randomBytes(packetBytes), randomBytes(5), Buffer.alloc(0)])
      again.send(packet, port, group)
    await sleep(300)
    again.close()
    assert.ok(overheard.length > 0)
    assert.deepEqual(one.heard(), [{ name: 'node-2', address: '127.0.0.1:6' }])
    assert.deepEqual(two.heard(), [{ name: 'n1', address: '127.0.0.1:2' }])
    assert.deepEqual(stranger.heard(), [])
    assert.deepEqual([one.problem, two.problem, stranger.problem], ['', '', ''])
  } finally {
    thief.close()
    await Promise.all([one.close(), two.close(), stranger.close()])
  }
})
