import type { Catalog } from '../../core/contract/catalog.ts'
import { StorageError } from '../../core/contract/errors.ts'
import type { Logger } from '../../core/contract/logger.ts'
import type { RegionTunnels } from '../../core/contract/tunnel.ts'
import { MessageReader, MessageWriter } from '../framing/messages.ts'
import { decode, expectType, messageType, sendError } from '../replication/wire.ts'
import { type EdgeQuestion, edgeTopic, encodeFound, encodePage, questionSchema } from './wire.ts'

/** Questions of one edge that are answered at once; more are told to come again. */
const mostQuestions = 256

/** Answers what edges ask for their clients. Returns how to stop. */
export function serveEdges(
  tunnels: Pick<RegionTunnels, 'serve'>,
  catalog: Pick<Catalog, 'barrier' | 'bucket' | 'listObjects' | 'replication'>,
  log: Logger,
  here: number,
): () => void {
  const open = new Map<number, number>()
  return tunnels.serve(edgeTopic, async ({ regionId }, { readable, writable }) => {
    const busy = open.get(regionId) ?? 0
    open.set(regionId, busy + 1)
    const writer = new MessageWriter(writable)
    try {
      if (busy >= mostQuestions) throw new StorageError('OVERLOADED', 'too many questions at once')
      const reader = new MessageReader(readable, { maxBytes: 64 * 1024 })
      const question = decode(questionSchema, expectType(await reader.expect(), messageType.request))
      if ((await reader.read()) !== undefined)
        throw new StorageError('PROTOCOL_ERROR', 'one question for each stream')
      await catalog.barrier()
      await writer.send(messageType.answer, answerTo(catalog, here, regionId, question))
    } catch (reason) {
      const error = StorageError.from(reason)
      log.debug({ region: regionId, err: error }, 'a question of an edge failed')
      await sendError(writer, error)
    } finally {
      const left = (open.get(regionId) ?? 1) - 1
      if (left === 0) open.delete(regionId)
      else open.set(regionId, left)
    }
    await writer.end()
  })
}

/** NO_SUCH_BUCKET for what is not there and for what is not theirs: a region learns no names that it does not share. */
function answerTo(
  catalog: Pick<Catalog, 'bucket' | 'listObjects' | 'replication'>,
  regionId: number,
  region: number,
  question: EdgeQuestion,
): Uint8Array {
  const bucket = catalog.bucket(question.bucket)
  const rule = bucket === undefined ? undefined : catalog.replication.rule(bucket.id)
  if (bucket === undefined || rule?.edge?.regions.includes(region) !== true) {
    throw new StorageError('NO_SUCH_BUCKET', 'the region is no edge of a bucket of this name')
  }
  const { tag } = catalog.replication.access(bucket, regionId)
  if (question.kind === 'list') {
    const { prefix, delimiter, after, limit } = question
    return encodePage(catalog.listObjects(bucket.id, { prefix, delimiter, after, limit }), tag)
  }
  return encodeFound(catalog.replication.versionEntry(bucket.id, question.key, question.version), tag)
}
