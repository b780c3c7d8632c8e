import { Document, isMap, parseDocument, YAMLMap } from 'yaml'
import { StorageError } from '../../contract/errors.ts'
import { isLoopback } from './addresses.ts'
import { clusterPorts } from './cluster-schema.ts'

/** A node as a person writes it on the command line: `n1=10.0.0.1,zone=a,rack=r1`; `n1` where its address is to be found. */
export interface NodeSpec {
  readonly name: string
  /** Empty: to be found. */
  readonly address: string
  readonly zone: string
  readonly rack: string
}

/** INVALID_ARGUMENT when it is not written so. What name and address may be is the configuration's to say. */
export function parseNodeSpec(text: string): NodeSpec {
  const [place = '', ...options] = text.split(',')
  const [name = '', address = '', ...more] = place.split('=')
  const spec = { name, address, zone: '', rack: '' }
  if (name === '' || more.length > 0 || (place.includes('=') && address === '')) throw notASpec(text)
  for (const option of options) {
    const [key, value = '', ...rest] = option.split('=')
    if ((key !== 'zone' && key !== 'rack') || value === '' || rest.length > 0) throw notASpec(text)
    spec[key] = value
  }
  return spec
}

const notASpec = (text: string): StorageError =>
  new StorageError(
    'INVALID_ARGUMENT',
    `'${text}' is not NAME=ADDRESS[,zone=ZONE][,rack=RACK], for example n1=10.0.0.1,zone=a (NAME alone with --discovery)`,
  )

export interface NewClusterFile {
  readonly region: string
  readonly replicas: number
  readonly nodes: readonly NodeSpec[]
  /** `cluster.discovery`. */
  readonly discovery?: readonly string[]
  /** Of a region that there is already; 1 is what it is otherwise. */
  readonly regionId?: number
  /** Where the first node has its data, when it has some. */
  readonly data?: string
}

/** Text of a configuration file for all nodes. Nodes that share a machine get ports and data directories of their own. */
export function makeClusterFile(file: NewClusterFile): string {
  const { region, replicas, nodes, discovery = [], regionId = 1, data } = file
  const numbered = regionId === 1 ? {} : { regionId }
  const found = discovery.length === 0 ? {} : { discovery }
  const document = new Document({
    region,
    ...numbered,
    cluster: { replicas, keys: 'keys', ...found, nodes: {} },
  })
  document.commentBefore =
    ' The same file on every node; each is started with its own name:\n' +
    '   pando up --config cluster.yaml --node NAME\n' +
    ' All keys and what they mean: pando config schema'
  for (const node of nodes) {
    const onSameMachine = nodes.filter(({ address }) => isSameMachine(address, node.address))
    addNode(document, node, onSameMachine.length > 1)
  }
  const [first] = nodes
  if (first !== undefined && data !== undefined) {
    document.setIn(['cluster', 'nodes', first.name, 'data'], data)
  }
  return document.toString()
}

/** The file with one node more; what people have written into it stays. INVALID_CONFIG, CONFLICT. */
export function addToClusterFile(text: string, node: NodeSpec): string {
  const document = parseDocument(text)
  const [problem] = document.errors
  if (problem !== undefined) throw new StorageError('INVALID_CONFIG', problem.message)
  addNode(document, node, false)
  return document.toString()
}

/** All loopback addresses are of this machine: admin and console listen at 127.0.0.1 whatever the address, and the data is in one place. */
const isSameMachine = (one: unknown, other: string): boolean =>
  other !== '' && (one === other || (typeof one === 'string' && isLoopback(one) && isLoopback(other)))

/** `sharesMachine`: others on the same machine are made together with it. */
function addNode(
  document: Pick<Document, 'getIn' | 'setIn' | 'createNode'>,
  node: NodeSpec,
  sharesMachine: boolean,
): void {
  const nodes = document.getIn(['cluster', 'nodes'])
  if (!isMap(nodes)) throw new StorageError('INVALID_CONFIG', 'the file has no section cluster.nodes')
  const taken = new Set<number>()
  let sharing = 0
  for (const { key, value } of nodes.items) {
    if (String(key) === node.name) throw new StorageError('CONFLICT', `${node.name} is in the file already`)
    if (!(value instanceof YAMLMap) || !isSameMachine(value.get('address'), node.address)) continue
    sharing++
    const ports = value.get('ports')
    for (const [part, usual] of Object.entries(clusterPorts)) {
      taken.add(ports instanceof YAMLMap && ports.has(part) ? Number(ports.get(part)) : usual)
    }
  }
  const { name, address, zone, rack } = node
  const entry: Record<string, unknown> = {
    ...(address === '' ? {} : { address }),
    ...(zone === '' ? {} : { zone }),
    ...(rack === '' ? {} : { rack }),
    ...(sharing === 0 ? {} : { ports: freePorts(taken) }),
  }
  if (sharing > 0 || sharesMachine) entry['data'] = `data-${name}`
  const value = document.createNode(entry)
  value.flow = sharing === 0
  document.setIn(['cluster', 'nodes', name], value)
}

/** A hundred further for each node that is there already. */
function freePorts(taken: ReadonlySet<number>): Record<string, number> {
  for (let shift = 100; ; shift += 100) {
    const ports = Object.entries(clusterPorts).map(([part, usual]) => [part, usual + shift] as const)
    if (ports.every(([, port]) => !taken.has(port))) return Object.fromEntries(ports)
  }
}
