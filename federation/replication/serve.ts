import { setMaxListeners } from 'node:events'
import { StorageError } from '../../core/contract/errors.ts'
import type { Logger } from '../../core/contract/logger.ts'
import type { Tracer } from '../../core/contract/trace.ts'
import type { RegionTunnels, TunnelStream } from '../../core/contract/tunnel.ts'
import { MessageReader, MessageWriter } from '../framing/messages.ts'
import type { ReplicationSource } from './source.ts'
import {
  decode,
  encode,
  expectType,
  messageType,
  replicationTopic,
  requestSchema,
  sendEntry,
  sendError,
} from './wire.ts'

/** Requests of one region that are answered at once; more are told to come again. */
const mostRequests = 256

/** Answers the regions that pull. Returns how to stop. */
export function serveReplication(
  tunnels: Pick<RegionTunnels, 'serve'>,
  source: ReplicationSource,
  log: Logger,
  tracer?: Tracer,
): () => void {
  const open = new Map<number, number>()
  const stopping = new AbortController()
  // One listener for each request that is being answered.
  setMaxListeners(0, stopping.signal)
  const stop = tunnels.serve(replicationTopic, async ({ regionId }, stream) => {
    const busy = open.get(regionId) ?? 0
    open.set(regionId, busy + 1)
    const writer = new MessageWriter(stream.writable, { unhashed: messageType.bare })
    try {
      if (busy >= mostRequests) throw new StorageError('OVERLOADED', 'too many requests at once')
      await answer(source, regionId, stream, writer, stopping.signal, tracer)
    } catch (reason) {
      const error = StorageError.from(reason)
      log.debug({ region: regionId, err: error }, 'a request of another region failed')
      await sendError(writer, error)
    } finally {
      const left = (open.get(regionId) ?? 1) - 1
      if (left === 0) open.delete(regionId)
      else open.set(regionId, left)
    }
    await writer.end()
  })
  return () => {
    stopping.abort(new StorageError('CANCELLED', 'the region stops'))
    stop()
  }
}

async function answer(
  source: ReplicationSource,
  regionId: number,
  stream: TunnelStream,
  writer: MessageWriter,
  signal: AbortSignal,
  tracer: Tracer | undefined,
): Promise<void> {
  const reader = new MessageReader(stream.readable, { maxBytes: 64 * 1024 })
  const request = decode(requestSchema, expectType(await reader.expect(), messageType.request))
  if ((await reader.read()) !== undefined)
    throw new StorageError('PROTOCOL_ERROR', 'one request for each stream')
  switch (request.kind) {
    case 'offers':
      await writer.send(messageType.answer, encode(await source.offers(regionId, request, signal)))
      break
    case 'pull': {
      const reply = await source.pull(regionId, request)
      if (reply.kind === 'start') {
        await writer.send(messageType.answer, encode(reply))
        break
      }
      const { entries, ...rest } = reply
      await writer.send(messageType.answer, encode({ ...rest, count: entries.length }))
      for (const bytes of entries) await sendEntry(writer, bytes)
      break
    }
    case 'repair':
      await source.repair(regionId, request)
      await writer.send(messageType.answer, encode({}))
      break
    case 'body': {
      const { linkClass = 'bulk', traceParent, ...body } = request
      stream.classify?.(linkClass)
      const span =
        traceParent === undefined
          ? undefined
          : tracer?.begin('replication.body', 'server', traceParent, {
              ...{ 'pando.peer_region': regionId, 'aws.s3.bucket': request.bucket },
              'pando.link_class': linkClass,
            })
      try {
        for await (const { bytes, release } of source.body(regionId, body, signal)) {
          await writer.lend(request.isProved ? messageType.bare : messageType.piece, bytes, release)
        }
        span?.end()
      } catch (error) {
        span?.end(error)
        throw error
      }
      break
    }
  }
}
