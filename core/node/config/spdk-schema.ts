import { z } from 'zod'
import { size } from './value-schemas.ts'

/** `store.bdevs`: the devices under the SPDK back end, one for each partition. native/README.md tells what each kind needs. */

const KiB = 1024
const MiB = 1024 * KiB

/** The superblock, the label and eight segments of 64 MiB, the least that a partition works with. */
export const leastBdevBytes = 520 * MiB

const kinds = ['aio', 'uring', 'malloc', 'nvme', 'nvme-tcp', 'nvme-rdma'] as const
type Kind = (typeof kinds)[number]

/** Which keys a kind needs; the others do not belong to it. */
const keysOf: Readonly<Record<Kind, readonly string[]>> = {
  aio: ['path'],
  uring: ['path'],
  malloc: ['size'],
  nvme: ['address'],
  'nvme-tcp': ['address', 'nqn'],
  'nvme-rdma': ['address', 'nqn'],
}
const kindsWithNamespace: readonly Kind[] = ['nvme', 'nvme-tcp', 'nvme-rdma']
const pciAddress = /^[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$/
const fabricAddress = /^(\[[0-9a-f:]+\]|[a-z0-9.-]+):([0-9]{1,5})$/i

const bdev = z
  .strictObject({
    kind: z
      .enum(kinds)
      .describe(
        'aio, uring: a file or block device of the kernel. nvme: a local NVMe device driven from user space. nvme-tcp, ' +
          'nvme-rdma: NVMe over Fabrics. malloc: memory, for trials.',
      ),
    path: z
      .string()
      .regex(/^\/[^\0]*$/, 'an absolute path')
      .optional()
      .describe('aio, uring: of the file or device. A file is not made: truncate -s 100G FILE.'),
    address: z
      .string()
      .optional()
      .describe('nvme: PCI address, for example 0000:01:00.0. nvme-tcp, nvme-rdma: host:port of the target.'),
    nqn: z
      .string()
      .regex(/^nqn\.[\x21-\x7e]{1,219}$/, 'a name such as nqn.2016-06.io.spdk:cnode1')
      .optional()
      .describe('nvme-tcp, nvme-rdma: name of the subsystem.'),
    namespace: z
      .int()
      .min(1)
      .max(0xfffffffe)
      .optional()
      .describe('nvme, nvme-tcp, nvme-rdma: which namespace; 1 unless told.'),
    size: size(leastBdevBytes, 1024 * 1024 * MiB)
      .optional()
      .describe('malloc: bytes of memory, at least 520MiB.'),
    volatile: z
      .boolean()
      .default(false)
      .describe(
        'true: I know that acknowledged objects can be lost here. Without it a device that cannot keep them is refused.',
      ),
  })
  .superRefine((value, context) => {
    const own = keysOf[value.kind]
    for (const key of ['path', 'address', 'nqn', 'size'] as const) {
      if (own.includes(key) === (value[key] !== undefined)) continue
      const message = own.includes(key)
        ? `a bdev of kind ${value.kind} needs it`
        : `a bdev of kind ${value.kind} has no such key`
      context.addIssue({ code: 'custom', path: [key], message })
    }
    if (value.namespace !== undefined && !kindsWithNamespace.includes(value.kind)) {
      const message = `a bdev of kind ${value.kind} has no such key`
      context.addIssue({ code: 'custom', path: ['namespace'], message })
    }
    if (value.kind === 'malloc' && !value.volatile) {
      const message = 'memory forgets every object when the node stops; say volatile: true if that is meant'
      context.addIssue({ code: 'custom', path: ['volatile'], message })
    }
    if (value.address === undefined) return
    const port = Number(fabricAddress.exec(value.address)?.[2])
    const isGood = value.kind === 'nvme' ? pciAddress.test(value.address) : port >= 1 && port <= 65_535
    if (isGood) return
    const example = value.kind === 'nvme' ? 'a PCI address such as 0000:01:00.0' : 'host:port'
    context.addIssue({ code: 'custom', path: ['address'], message: `'${value.address}' is not ${example}` })
  })

export const bdevList = z
  .array(bdev)
  .max(64)
  .prefault([])
  .describe('The devices of backend spdk, one for each reactor, always in the same order.')

export const spdkMemory = size(64 * MiB)
  .prefault('256MiB')
  .describe('Memory for SPDK itself (hugepages where a bdev needs them). malloc bdevs come on top.')

interface StoreSection {
  readonly backend: string
  readonly bdevs: readonly z.output<typeof bdev>[]
  readonly reactors: 'auto' | number
}

/** What the keys of the store say about each other. */
export function checkStoreSection(
  { backend, bdevs, reactors }: StoreSection,
  context: z.RefinementCtx,
): void {
  const issue = (key: string, message: string): void =>
    context.addIssue({ code: 'custom', path: [key], message })
  if (backend !== 'spdk') {
    if (bdevs.length > 0) issue('bdevs', 'only backend spdk uses bdevs')
    return
  }
  if (bdevs.length === 0) issue('bdevs', 'backend spdk needs at least one')
  if (reactors !== 'auto' && reactors !== bdevs.length) {
    issue('reactors', `backend spdk has one for each bdev: auto, or ${bdevs.length}`)
  }
  if (bdevs.some(({ kind }) => kind === 'malloc') && bdevs.some(({ kind }) => kind !== 'malloc')) {
    issue('bdevs', 'malloc cannot stand beside others: a part of every object would be lost at each stop')
  }
  const places = bdevs.filter(({ kind }) => kind !== 'malloc').map(placeOf)
  if (new Set(places).size < places.length) issue('bdevs', 'two of them are the same device')
}

function placeOf({ path, address, nqn, namespace }: StoreSection['bdevs'][number]): string {
  return path ?? `${address} ${nqn ?? ''} ${namespace ?? 1}`
}
