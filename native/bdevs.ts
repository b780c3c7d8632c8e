/** A block device of SPDK; what each kind needs is checked in core/node/config/spdk-schema.ts. */
export interface BdevOptions {
  readonly kind: 'aio' | 'uring' | 'malloc' | 'nvme' | 'nvme-tcp' | 'nvme-rdma'
  readonly path?: string | undefined
  readonly address?: string | undefined
  readonly nqn?: string | undefined
  readonly namespace?: number | undefined
  readonly size?: number | undefined
  readonly volatile?: boolean | undefined
}

/** BdevOptions in native/include/pando/bdev.h. */
export interface NativeBdev {
  readonly kind: number
  readonly target: string
  readonly nqn: string
  readonly namespace: number
  readonly sizeBytes: number
  readonly mayLose: boolean
}

/** BdevKind, in the order of its numbers. */
const kinds: readonly BdevOptions['kind'][] = ['aio', 'uring', 'malloc', 'nvme', 'nvme-tcp', 'nvme-rdma']

export function nativeBdev(options: BdevOptions): NativeBdev {
  const { kind, path, address, nqn = '', namespace = 1, size = 0, volatile = false } = options
  return {
    kind: kinds.indexOf(kind),
    target: path ?? address ?? '',
    nqn,
    namespace,
    sizeBytes: size,
    mayLose: volatile,
  }
}
