import { mkdir, readFile, rename, writeFile } from 'node:fs/promises'
import { join, relative, resolve } from 'node:path'
import {
  authorityFolder,
  makeClusterKeys,
  makeNodeKeys,
  type PlannedNode,
} from '../cluster/keys/cluster-keys.ts'
import { StorageError } from '../contract/errors.ts'
import { isLoopback } from '../node/config/addresses.ts'
import {
  addToClusterFile,
  makeClusterFile,
  type NodeSpec,
  parseNodeSpec,
} from '../node/config/cluster-file.ts'
import { loadConfig, rootKeysFrom } from '../node/config/load.ts'
import { readDataKeys } from '../node/data-directory.ts'
import { realEnvironment } from '../node/environment.ts'
import type { InitOptions } from './cluster-options.ts'
import { exitCodes } from './exit-codes.ts'
import type { Terminal } from './terminal.ts'

const fileName = 'cluster.yaml'
const keysName = 'keys'

/** Writes the configuration and all keys of a new region; nothing that is there is written over. */
export async function initCluster(
  terminal: Terminal,
  options: InitOptions,
  ...texts: readonly string[]
): Promise<number> {
  const nodes = texts.map(parseNodeSpec)
  const directory = resolve(terminal.workingDirectory, options.directory)
  const own = options.from === undefined ? undefined : await readOwnRegion(terminal, options.from)
  if (own !== undefined && nodes.length !== 1) {
    throw new StorageError(
      'INVALID_ARGUMENT',
      "--from: name the one node that has the data; the others are added afterwards with 'pando cluster add-node'",
    )
  }
  const text = makeClusterFile({
    region: options.region,
    replicas: Number(options.replicas),
    nodes,
    ...(options.discovery === undefined ? {} : { discovery: options.discovery }),
    ...(own === undefined ? {} : { regionId: own.regionId, data: own.path }),
  })
  // Checked as it will be read, once for each node, before anything is made.
  const configs = nodes.map(({ name }) =>
    loadConfig({ file: { name: fileName, text }, environment: {}, overrides: { node: name } }),
  )
  const rootKeys = rootKeysFrom(terminal.environment) ?? own?.rootKeys
  await mkdir(directory, { recursive: true, mode: 0o700 })
  const path = join(directory, fileName)
  await refuseExisting(path)
  await makeClusterKeys(
    {
      directory: join(directory, keysName),
      regionId: configs[0]?.regionId ?? 1,
      nodes: nodes.map(planned),
      ...(rootKeys === undefined ? {} : { rootKeys }),
      ...(own === undefined ? {} : { sealingKey: own.sealingKey }),
    },
    realEnvironment,
  )
  await writeFile(path, text, { flag: 'wx', mode: 0o600 })
  if (options.json === true) {
    terminal.out(`${JSON.stringify({ directory, file: path, nodes: nodes.map(({ name }) => name) })}\n`)
    return exitCodes.ok[0]
  }
  const keys = join(directory, keysName)
  if (own !== undefined) {
    const [{ name = '' } = {}] = nodes
    terminal.out(
      `Made ${path} and the keys of ${name}, whose data in ${own.path} become the region's.\n\n` +
        `1. Stop the node that runs on ${own.path}, and start it as the first of its region:\n` +
        `     pando up --config ${path} --node ${name}\n` +
        "2. When it serves, add the others, one after the other: 'pando cluster add-node NAME=ADDRESS'.\n" +
        `Access keys stay as they are. Keep ${join(keys, authorityFolder)} off the nodes.\n`,
    )
    return exitCodes.ok[0]
  }
  if (nodes.every(({ address }) => isLoopback(address))) {
    const file = shown(terminal, path)
    terminal.out(
      `Made ${path} and the keys of ${nodes.length} nodes, all on this machine.\n\n` +
        "Start each in a terminal of its own (they need nats-server: 'pando doctor' tells):\n" +
        nodes.map(({ name }) => `  pando up --config ${file} --node ${name}\n`).join('') +
        'The first start waits until all of them are there. The root key, the same for all: ' +
        `${shown(terminal, join(keys, nodes[0]?.name ?? '', 'root-key.json'))}\n` +
        `Then: pando cluster status --config ${file} --node ${nodes[0]?.name}\n`,
    )
    return exitCodes.ok[0]
  }
  terminal.out(
    `Made ${path} and the keys of ${nodes.length} nodes.\n\n` +
      `1. Copy ${fileName} and ${keysName}/NAME (that node's folder only) to each machine, by a safe way.\n` +
      `2. Keep ${join(keys, authorityFolder)} off the nodes: whoever has it can make nodes of this region.\n` +
      `3. Start each node (nats-server must be installed on the first three; 'pando doctor' tells):\n` +
      nodes.map(({ name }) => `     pando up --config ${fileName} --node ${name}\n`).join('') +
      `The first start waits until all of them are there. The root key is in ${keysName}/NAME/root-key.json.\n`,
  )
  return exitCodes.ok[0]
}

/** One node more in the file, and its keys. */
export async function addNode(terminal: Terminal, options: InitOptions, text = ''): Promise<number> {
  const node = parseNodeSpec(text)
  const directory = resolve(terminal.workingDirectory, options.directory)
  const path = join(directory, fileName)
  let before: string
  try {
    before = await readFile(path, 'utf8')
  } catch (error) {
    throw new StorageError(
      'INVALID_CONFIG',
      `cannot read ${path}: name the directory that 'pando cluster init' made`,
      {
        cause: error,
      },
    )
  }
  const after = addToClusterFile(before, node)
  loadConfig({ file: { name: fileName, text: after }, environment: {}, overrides: { node: node.name } })
  await makeNodeKeys(
    {
      authority: join(directory, keysName, authorityFolder),
      node: planned(node),
      to: join(directory, keysName, node.name),
    },
    realEnvironment,
  )
  await writeFile(`${path}.new`, after, { mode: 0o600 })
  await rename(`${path}.new`, path)
  if (options.json === true) terminal.out(`${JSON.stringify({ directory, file: path, node: node.name })}\n`)
  else {
    terminal.out(
      (isLoopback(node.address)
        ? `${node.name} is in ${path}. Start it:\n  pando up --config ${shown(terminal, path)} --node ${node.name}\n`
        : `${node.name} is in ${path}. Copy the file and ${keysName}/${node.name} to its machine and start it:\n` +
          `  pando up --config ${fileName} --node ${node.name}\n`) +
        'It joins the region by itself; the file of the other nodes need not change now.\n',
    )
  }
  return exitCodes.ok[0]
}

/** What a node's own data directory says: its secrets can be read by a region with the same keys only. */
async function readOwnRegion(terminal: Terminal, from: string) {
  const path = resolve(terminal.workingDirectory, from)
  return { path, ...(await readDataKeys(path)) }
}

/** As it would be typed where the command was: what is below that directory without it. */
function shown({ workingDirectory }: Terminal, path: string): string {
  const short = relative(workingDirectory, path)
  return short.startsWith('..') ? path : short
}

const planned = ({ name, address }: NodeSpec): PlannedNode => ({
  name,
  hosts: address === '' ? [] : [address],
})

async function refuseExisting(path: string): Promise<void> {
  const exists = await readFile(path).then(
    () => true,
    () => false,
  )
  if (exists) throw new StorageError('CONFLICT', `${path} is there already; it is never written over`)
}
