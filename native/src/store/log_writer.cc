#include "store/log_writer.h"

#include <algorithm>
#include <cstring>

namespace pando {

LogWriter::LogWriter(Partition& partition) : partition_(partition) {
  for (uint32_t i = 0; i < kUserBatches + kMoveBatches; ++i) {
    auto batch = std::make_unique<Batch>();
    batch->buffer = AlignedBuffer(kPageBytes + kBatchBytes);
    batch->writer = this;
    batch->ops.reserve(kMaxSlots);
    batch->request.context = batch.get();
    batch->request.done = [](BlockRequest* request) {
      auto* finished = static_cast<Batch*>(request->context);
      finished->writer->Finished(*finished);
    };
    pool_.push_back(std::move(batch));
  }
}

void LogWriter::Enqueue(uint32_t stream, WriteOp* op) {
  Stream& s = streams_[stream];
  op->next = nullptr;
  (s.tail != nullptr ? s.tail->next : s.head) = op;
  s.tail = op;
  ++s.queue_length;
  s.queue_bytes += op->record.length;
}

WriteOp* LogWriter::PopOp(Stream& stream) {
  WriteOp* op = stream.head;
  stream.head = op->next;
  if (stream.head == nullptr) stream.tail = nullptr;
  --stream.queue_length;
  stream.queue_bytes -= op->record.length;
  return op;
}

bool LogWriter::idle() const {
  return unsettled_.empty() && streams_[0].queue_length == 0 && streams_[1].queue_length == 0;
}

// Small segments, as tests use them, hold less than a full batch.
uint64_t LogWriter::BatchBytes() const {
  return std::min<uint64_t>(kBatchBytes, uint64_t{partition_.log_pages() - 1} * kPageBytes);
}

// Deletes must not wait behind puts that wait for space: they are what makes space, and the
// collector waits for them where they concern what it moves. Its stream may use the last segments,
// and the order of the log is by sequence, whichever stream carries a record.
void LogWriter::RerouteDeletes() {
  Stream& s = streams_[kUserStream];
  WriteOp* op = s.head;
  s.head = s.tail = nullptr;
  s.queue_length = 0;
  s.queue_bytes = 0;
  while (op != nullptr) {
    WriteOp* next = op->next;
    Enqueue(op->kind == WriteOp::Kind::kDelete ? kMoveStream : kUserStream, op);
    op = next;
  }
}

LogWriter::Batch* LogWriter::FreeBatch() {
  for (const auto& batch : pool_) {
    if (!batch->busy) return batch.get();
  }
  return nullptr;
}

bool LogWriter::ShouldSubmit(const Stream& stream, uint32_t most) const {
  if (stream.queue_length == 0 || stream.in_flight >= most) return false;
  // At once while little is in flight: waiting would only add to the latency. With more in flight,
  // a batch must be worth a device command of its own.
  if (stream.in_flight < 2) return true;
  return stream.queue_bytes >= kBatchBytes / 4 || stream.queue_length >= 4;
}

size_t LogWriter::Pump() {
  if (partition_.offline) {
    FailQueued(ErrorCode::kDeviceOffline);
    // Nothing may settle any more, and whoever waits has been told of no batch: the collector for
    // what was queued here, or for a device that somebody else found offline.
    partition_.settled.WakeAll();
    return 0;
  }
  size_t submitted = 0;
  while (ShouldSubmit(streams_[kUserStream], kUserBatches) && PumpStream(kUserStream)) ++submitted;
  while (ShouldSubmit(streams_[kMoveStream], kMoveBatches) && PumpStream(kMoveStream)) ++submitted;
  return submitted;
}

// Takes ops off the queue that fit one batch. Returns its payload bytes, page-aligned ones first.
uint32_t LogWriter::Choose(uint32_t stream, Batch& batch) {
  Stream& s = streams_[stream];
  batch.ops.clear();
  uint32_t slots = 0;
  uint64_t aligned = 0;
  uint64_t packed = 0;
  // The queue is spread over the batches that may be in flight: one batch of everything would leave
  // the device idle while its completion travels to the user and the next requests travel back.
  constexpr size_t kFewRecords = 8;
  const uint32_t may_fly = kUserBatches - std::min(s.in_flight, kUserBatches - 1);
  const size_t most_records =
      stream == kUserStream ? std::max(kFewRecords, s.queue_length / may_fly) : kMaxSlots;
  while (s.head != nullptr) {
    const RecordShape shape = ShapeOf(s.head->record.length);
    const bool alone = shape.payload_bytes > kAloneBytes;
    if (batch.ops.size() >= most_records) break;
    if (!batch.ops.empty() && (alone || slots + shape.slots > kMaxSlots ||
                               aligned + packed + shape.payload_bytes > BatchBytes())) {
      break;
    }
    slots += shape.slots;
    (shape.packed ? packed : aligned) += shape.payload_bytes;
    batch.ops.push_back(PopOp(s));
    if (alone) break;
  }
  return static_cast<uint32_t>(aligned + packed);
}

// The open segment has room for `pages`; opens another one otherwise. False: there is none (yet).
bool LogWriter::EnsureSegment(uint32_t stream, uint32_t pages) {
  Stream& s = streams_[stream];
  if (s.segment != kNoSegment) {
    const Segment& open = partition_.segments[s.segment];
    if (open.next_page + pages <= partition_.log_pages()) return true;
  }
  const auto fresh = partition_.TakeFreeSegment(stream == kUserStream ? kPutReserve : 0);
  if (!fresh) {
    partition_.collect_now = true;
    return false;
  }
  if (s.segment != kNoSegment) {
    Batch* seal = FreeBatch();
    PANDO_ASSERT(seal != nullptr);
    seal->ops.clear();
    seal->stream = stream;
    std::memset(seal->buffer.data(), 0, kPageBytes);
    SealAndSubmit(*seal, 0, 0, kBatchSeals);
  }
  partition_.segments[*fresh].stream = static_cast<uint8_t>(stream);
  s.segment = *fresh;
  return true;
}

// A start learns from a segment's first page which generation is in it. If that page could be lost
// while a batch behind it arrived, that batch would be neither seen nor erased, and met again when
// the generation and its sequence have been given to another one.
bool LogWriter::AwaitsFirstBatch(const Stream& stream) const {
  if (stream.segment == kNoSegment) return false;
  const Segment& open = partition_.segments[stream.segment];
  return open.next_page > 0 && open.applied_pages == 0;
}

bool LogWriter::PumpStream(uint32_t stream) {
  Stream& s = streams_[stream];
  if (AwaitsFirstBatch(s)) return false;
  // A seal may be needed beside the batch itself.
  size_t available = 0;
  for (const auto& candidate : pool_) available += candidate->busy ? 0 : 1;
  if (available < 2) return false;

  // A batch never straddles segments: room for the most that Choose may take.
  const RecordShape first = ShapeOf(s.head->record.length);
  uint64_t most = first.payload_bytes;
  if (most <= kAloneBytes) {
    most = std::max(most, std::min(s.queue_bytes + s.queue_length * kPageBytes, BatchBytes()));
  }
  const uint64_t pages = 1 + RoundUp(most, kPageBytes) / kPageBytes;
  PANDO_ASSERT(pages <= partition_.log_pages());
  if (!EnsureSegment(stream, static_cast<uint32_t>(pages))) {
    if (stream == kUserStream) {
      RerouteDeletes();
      starved_ = s.head != nullptr;
    }
    return false;
  }
  if (stream == kUserStream) starved_ = false;

  Batch* batch = FreeBatch();
  PANDO_ASSERT(batch != nullptr);
  batch->stream = stream;
  Choose(stream, *batch);
  Place(*batch);
  return true;
}

// Gives every record its slots and every payload its place, then sends the batch off.
void LogWriter::Place(Batch& batch) {
  std::byte* base = batch.buffer.data();
  std::memset(base, 0, kPageBytes);
  const bool alone =
      batch.ops.size() == 1 && ShapeOf(batch.ops[0]->record.length).payload_bytes > kAloneBytes;
  uint32_t record_slots = 0;
  uint64_t cursor = kPageBytes;  // bytes from the start of the batch
  for (const WriteOp* op : batch.ops) record_slots += ShapeOf(op->record.length).slots;

  // Page-aligned payloads first, then packed ones, so that packing wastes at most one page.
  std::array<uint64_t, kMaxSlots> offsets = {};
  std::array<uint32_t, kMaxSlots> inline_slots = {};
  uint32_t spare = kMaxSlots - record_slots;
  for (size_t i = 0; i < batch.ops.size(); ++i) {
    const RecordShape shape = ShapeOf(batch.ops[i]->record.length);
    if (shape.packed || shape.payload_bytes == 0) continue;
    offsets[i] = cursor;
    cursor += shape.payload_bytes;
  }
  for (size_t i = 0; i < batch.ops.size(); ++i) {
    const RecordShape shape = ShapeOf(batch.ops[i]->record.length);
    if (!shape.packed || shape.payload_bytes == 0) continue;
    const uint32_t wanted = shape.payload_bytes / kSlotBytes;
    if (wanted <= spare) {  // free room in the header page costs nothing
      inline_slots[i] = wanted;
      spare -= wanted;
    } else {
      offsets[i] = cursor;
      cursor += shape.payload_bytes;
    }
  }
  const auto payload_pages = static_cast<uint32_t>((cursor - 1) / kPageBytes);
  const uint64_t end = uint64_t{1 + payload_pages} * kPageBytes;
  if (!alone && cursor < end) std::memset(base + cursor, 0, end - cursor);

  const Stream& s = streams_[batch.stream];
  const Segment& segment = partition_.segments[s.segment];
  const uint64_t start = partition_.OffsetOf(s.segment, segment.next_page);
  uint32_t slot = 0;
  for (size_t i = 0; i < batch.ops.size(); ++i) {
    WriteOp& op = *batch.ops[i];
    const RecordShape shape = ShapeOf(op.record.length);
    std::byte* at = base + size_t{kHeaderSlots + slot} * kSlotBytes;
    if (inline_slots[i] > 0) offsets[i] = size_t{kHeaderSlots + slot + 1} * kSlotBytes;
    op.record.extra_slots = static_cast<uint16_t>(shape.slots - 1 + inline_slots[i]);
    op.record.position = static_cast<uint32_t>(offsets[i] / kSlotBytes);
    if (op.kind == WriteOp::Kind::kDelete) op.record.origin_sequence = next_sequence_;
    std::memcpy(at, &op.record, sizeof op.record);
    if (!op.block_crcs.empty()) {
      std::memcpy(at + kSlotBytes, op.block_crcs.data(), op.block_crcs.size() * 4);
    }
    slot += shape.slots + inline_slots[i];
    op.address = (start + offsets[i]) / kSlotBytes;
    op.header_distance = static_cast<uint32_t>(offsets[i] / kPageBytes);
    const uint32_t length = op.record.length;
    if (length == 0) continue;
    if (alone) {
      std::memset(op.payload + length, 0, shape.payload_bytes - length);
    } else {
      std::memcpy(base + offsets[i], op.payload, length);
      if (shape.payload_bytes > length) {
        std::memset(base + offsets[i] + length, 0, shape.payload_bytes - length);
      }
    }
  }
  SealAndSubmit(batch, payload_pages, slot, 0);
}

void LogWriter::SealAndSubmit(Batch& batch, uint32_t payload_pages, uint32_t slots, uint8_t flags) {
  Stream& s = streams_[batch.stream];
  Segment& segment = partition_.segments[s.segment];
  batch.segment = s.segment;
  batch.page = segment.next_page;
  batch.pages = 1 + payload_pages;
  batch.sequence = next_sequence_++;
  batch.seals = (flags & kBatchSeals) != 0;
  batch.finished = false;
  batch.busy = true;
  if (segment.first_sequence == 0) segment.first_sequence = batch.sequence;

  BatchHeader header;
  header.kind = static_cast<uint16_t>(BatchKind::kData);
  header.uuid = partition_.superblock.uuid;
  header.segment = batch.segment;
  header.generation = segment.generation;
  header.page = batch.page;
  header.payload_pages = payload_pages;
  header.sequence = batch.sequence;
  header.durable_sequence = partition_.applied_sequence;
  header.previous_crc = segment.last_crc;
  header.slots = static_cast<uint16_t>(slots);
  header.stream = static_cast<uint8_t>(batch.stream);
  header.flags = flags;
  for (uint32_t i = 0; i < kStreams; ++i) header.durable[i] = streams_[i].durable;
  std::memcpy(batch.buffer.data(), &header, sizeof header);
  SealHeaderPage(batch.buffer.span().first(kPageBytes));
  std::memcpy(&batch.crc, batch.buffer.data() + offsetof(BatchHeader, crc), 4);

  segment.last_crc = batch.crc;
  segment.next_page += batch.pages;
  PANDO_ASSERT(segment.next_page <= partition_.marker_page());

  BlockRequest& request = batch.request;
  request.op = BlockRequest::Op::kWrite;
  request.durable = true;
  request.offset = partition_.OffsetOf(batch.segment, batch.page);
  const bool alone =
      batch.ops.size() == 1 && ShapeOf(batch.ops[0]->record.length).payload_bytes > kAloneBytes;
  if (alone) {
    request.SetPart(batch.buffer.data(), kPageBytes);
    request.AddPart(batch.ops[0]->payload, size_t{payload_pages} * kPageBytes);
  } else {
    request.SetPart(batch.buffer.data(), size_t{batch.pages} * kPageBytes);
  }
  if (!batch.ops.empty()) last_data_sequence_ = batch.sequence;
  ++s.in_flight;
  unsettled_.push_back(&batch);
  partition_.device.Submit(&request);
}

void LogWriter::Vouch() {
  if (partition_.offline || vouched() || !unsettled_.empty()) return;
  const Stream& s = streams_[kUserStream];
  if (s.segment == kNoSegment) return;
  if (partition_.segments[s.segment].next_page + 1 > partition_.log_pages()) return;
  Batch* batch = FreeBatch();
  PANDO_ASSERT(batch != nullptr);
  batch->ops.clear();
  batch->stream = kUserStream;
  std::memset(batch->buffer.data(), 0, kPageBytes);
  SealAndSubmit(*batch, 0, 0, 0);
}

void LogWriter::Finished(Batch& batch) {
  batch.finished = true;
  if (batch.request.result != static_cast<int64_t>(uint64_t{batch.pages} * kPageBytes)) {
    partition_.GoOffline("a durable write", batch.request.result);
  }
  Settle();
}

void LogWriter::Settle() {
  bool any = false;
  while (!unsettled_.empty() && unsettled_.front()->finished) {
    Batch* batch = unsettled_.front();
    unsettled_.pop_front();
    const bool durable =
        batch->request.result == static_cast<int64_t>(uint64_t{batch->pages} * kPageBytes) &&
        batch->sequence == partition_.applied_sequence + 1;
    // After a gap nothing may be acknowledged: recovery would cut it.
    if (durable) Apply(*batch);
    --streams_[batch->stream].in_flight;
    for (WriteOp* op : batch->ops) {
      op->done(op, durable ? ErrorCode::kOk : ErrorCode::kDeviceOffline);
    }
    batch->ops.clear();
    batch->busy = false;
    any = true;
  }
  if (any) partition_.settled.WakeAll();
}

void LogWriter::Apply(Batch& batch) {
  Segment& segment = partition_.segments[batch.segment];
  partition_.applied_sequence = batch.sequence;
  segment.applied_pages = batch.page + batch.pages;
  segment.applied_crc = batch.crc;
  streams_[batch.stream].durable = {batch.segment, segment.generation, segment.applied_pages};
  uint64_t vouched = 0;
  std::memcpy(&vouched, batch.buffer.data() + offsetof(BatchHeader, durable_sequence), 8);
  vouched_sequence_ = std::max(vouched_sequence_, vouched);
  ++partition_.stats.batches;
  partition_.stats.bytes_written += uint64_t{batch.pages} * kPageBytes;
  partition_.log_bytes_since_checkpoint += uint64_t{batch.pages} * kPageBytes;
  if (batch.stream == kUserStream && !batch.ops.empty()) {
    ++partition_.recent_puts.count;
    partition_.recent_puts.bytes += uint64_t{batch.pages} * kPageBytes;
  }
  if (batch.seals) {
    segment.state = SegmentState::kSealed;
    segment.sealed_sequence = batch.sequence;
  }
  for (const WriteOp* op : batch.ops) {
    switch (op->kind) {
      case WriteOp::Kind::kPut:
      case WriteOp::Kind::kMove: {
        IndexEntry entry;
        entry.id = op->record.id;
        entry.crc = op->record.crc;
        entry.length = op->record.length;
        entry.address = op->address;
        entry.header_distance = op->header_distance;
        partition_.InsertChunk(entry);
        segment.tombstones += (op->record.flags & kRecordRepairs) != 0 ? 1 : 0;
        break;
      }
      case WriteOp::Kind::kDelete:
        partition_.RemoveChunk(op->record.id);
        ++segment.tombstones;
        break;
      case WriteOp::Kind::kCarry:
        ++segment.tombstones;
        break;
    }
  }
}

void LogWriter::FailQueuedPuts(ErrorCode code) {
  RerouteDeletes();
  Stream& s = streams_[kUserStream];
  WriteOp* op = s.head;
  s.head = s.tail = nullptr;
  s.queue_length = 0;
  s.queue_bytes = 0;
  starved_ = false;
  while (op != nullptr) {
    WriteOp* next = op->next;
    op->done(op, code);
    op = next;
  }
}

void LogWriter::FailQueued(ErrorCode code) {
  for (Stream& s : streams_) {
    while (s.head != nullptr) {
      WriteOp* op = PopOp(s);
      op->done(op, code);
    }
  }
  starved_ = false;
}

void LogWriter::Resume(uint32_t stream, uint32_t segment) {
  Stream& s = streams_[stream];
  s.segment = segment;
  const Segment& open = partition_.segments[segment];
  s.durable = {segment, open.generation, open.applied_pages};
}

}  // namespace pando
