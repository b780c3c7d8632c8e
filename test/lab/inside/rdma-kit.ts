// Runs in the guest: the laws of transports between two native stores, over the Soft-RoCE pair of guest/network.sh.
import { test } from 'node:test'
import { silentLogger } from '../../../core/contract/logger.ts'
import { detectFabrics, realMachine } from '../../../core/protocol/machine/detect.ts'
import { openChunkStore } from '../../../native/addon.ts'
import { nativeRdma } from '../../../native/native-transports.ts'
import { proveDeaths } from '../../kit/native-death.ts'
import { proveTransport, type TransportGround } from '../../kit/transport.ts'

const adapter = nativeRdma(() => detectFabrics(realMachine()))

async function rdmaGround(): Promise<TransportGround> {
  const options = { directory: '', backend: 'memory', poolBytes: 32 * 1024 * 1024, reactors: 1 } as const
  const open = () => openChunkStore({ ...options, log: silentLogger })
  const [served, own] = await Promise.all([open(), open()])
  return {
    adapter,
    address: '10.77.0.2:0',
    served,
    own,
    async close() {
      await Promise.all([served.close(), own.close()])
    },
  }
}

proveTransport(test, { name: 'native rdma', open: rdmaGround }, { hasWire: false })
proveDeaths(test, {
  name: 'native rdma',
  adapter,
  address: async () => '10.77.0.2:0',
  deaths: 1,
  exposesPayloads: true,
})
