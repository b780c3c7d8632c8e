import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { test } from 'node:test'
import {
  adminMethods,
  adminServiceName,
  clusterServiceName,
  configServiceName,
  definitionIn,
  failoverServiceName,
  federationServiceName,
  policyServiceName,
  protoPath,
  replicationServiceName,
  sharingServiceName,
} from '../../../core/control/service-definition.ts'

const files = {
  [adminServiceName]: 'admin.proto',
  [policyServiceName]: 'policy.proto',
  [clusterServiceName]: 'cluster.proto',
  [federationServiceName]: 'federation.proto',
  [sharingServiceName]: 'sharing.proto',
  [replicationServiceName]: 'replication.proto',
  [failoverServiceName]: 'failover.proto',
  [configServiceName]: 'config.proto',
}

test('the methods of a service are those that the library reads in its proto file', () => {
  const facts = (methods: object) =>
    Object.entries(methods)
      .map(([name, { path, requestStream, responseStream }]) => ({
        name,
        path,
        requestStream,
        responseStream,
      }))
      .toSorted((one, other) => one.name.localeCompare(other.name))
  for (const [service, file] of Object.entries(files)) {
    const whole = definitionIn(protoPath(file))[service]
    assert.ok(whole, service)
    assert.deepEqual(facts(adminMethods(service)), facts(whole))
    assert.ok(Object.keys(whole).length > 1, service)
  }
})

test('messages go through a method as they go through the definition in the file', () => {
  const method = adminMethods()['CreateBucket']
  assert.ok(method)
  const bytes = method.requestSerialize({ name: 'photos', owner: 'ann' })
  assert.deepEqual(method.requestDeserialize(bytes), { name: 'photos', owner: 'ann' })
  assert.deepEqual(method.responseDeserialize(method.responseSerialize({ name: 'photos', owner: 'ann' })), {
    ...{ name: 'photos', owner: 'ann' },
    ...{ createdMs: 0, versioning: '' },
  })
})

test('the methods are known before a library that reads messages is loaded', () => {
  const url = new URL('../../../core/control/service-definition.js', import.meta.url).href
  const program = `
    import { createRequire } from 'node:module'
    const { serverDefinition, adminMethods } = await import(process.argv[1])
    const loaded = () => Object.keys(createRequire(process.argv[1]).cache).some((path) => path.includes('protobufjs'))
    const before = [Object.keys(serverDefinition()).length > 10, loaded()]
    adminMethods().GetStatus.requestSerialize({})
    console.log(JSON.stringify([...before, loaded()]))`
  const run = spawnSync(process.execPath, ['--input-type=module', '-e', program, url], { encoding: 'utf8' })
  assert.deepEqual(JSON.parse(run.stdout), [true, false, true], run.stderr)
})
