#include "store/chunk_store.h"

#include <algorithm>
#include <cstring>

#include "pando/crc32c.h"
#include "store/recovery.h"

namespace pando {
namespace {

template <typename T>
Task<void> Capture(Task<T> task, std::optional<T>* out) {
  out->emplace(co_await task);
}

/// Runs a task to its end, polling the device.
template <typename T>
T RunToEnd(BlockDevice& device, Task<T> task) {
  TaskScope scope;
  std::optional<T> result;
  Spawn(scope, Capture(std::move(task), &result));
  while (scope.running > 0) device.Poll(100000);
  return std::move(*result);
}

Task<Status> WriteEmptyStore(BlockDevice& device, StoreOptions options) {
  Superblock superblock;
  superblock.uuid = options.uuid;
  superblock.partition = options.partition;
  superblock.partitions = options.partitions;
  superblock.segment_pages = options.segment_pages;
  superblock.created_unix_ms = options.created_unix_ms;
  superblock.sequence = 1;
  const uint64_t bytes =
      kDataOffset + uint64_t{options.initial_segments} * options.segment_pages * kPageBytes;
  Status status = co_await Grower::MakeRange(device, 0, bytes, Grower::Fill::kZeros);
  if (!status.ok()) co_return status;
  // The superblock comes last: a store that was cut off while being made has none.
  SealSuperblock(superblock);
  AlignedBuffer page(kPageBytes);
  std::memcpy(page.data(), &superblock, sizeof superblock);
  for (uint64_t copy = 0; copy < kSuperblockCopies; ++copy) {
    const int64_t moved = co_await DeviceIo(
        device, BlockRequest::Op::kWrite, copy * kSuperblockSpacing, page.data(), kPageBytes, true);
    if (moved != static_cast<int64_t>(kPageBytes)) {
      co_return Error{ErrorCode::kIoError, "cannot write the superblock"};
    }
  }
  co_return Status();
}

}  // namespace

ChunkStore::ChunkStore(BlockDevice& device, StoreOptions options)
    : partition_(device, std::move(options)),
      writer_(partition_),
      reader_(partition_),
      collector_(partition_, writer_, reader_, gate_),
      checkpointer_(partition_),
      grower_(partition_),
      scrubber_(partition_, reader_) {}

ChunkStore::~ChunkStore() { PANDO_ASSERT(!open_ || partition_.tasks.running == 0); }

Status ChunkStore::Format(BlockDevice& device, const StoreOptions& options) {
  return RunToEnd(device, WriteEmptyStore(device, options));
}

Result<std::unique_ptr<ChunkStore>> ChunkStore::Open(BlockDevice& device, StoreOptions options) {
  auto superblock = RunToEnd(device, Recovery::ReadSuperblock(device));
  if (!superblock.ok()) return superblock.error();
  if (superblock.value().partition != options.partition) {
    return Error{ErrorCode::kInvalidArgument,
                 "this is partition " + std::to_string(superblock.value().partition) +
                     ", expected partition " + std::to_string(options.partition)};
  }
  if (superblock.value().partitions != options.partitions) {
    return Error{ErrorCode::kInvalidArgument,
                 "partition " + std::to_string(options.partition) + " belongs to a store of " +
                     std::to_string(superblock.value().partitions) + " partitions, not of " +
                     std::to_string(options.partitions)};
  }
  std::unique_ptr<ChunkStore> store(new ChunkStore(device, std::move(options)));
  Partition& partition = store->partition_;
  partition.superblock = superblock.value();
  Recovery recovery(partition, store->writer_);
  const Status recovered = RunToEnd(device, recovery.Run());
  if (!recovered.ok()) return recovered.error();
  const auto grown = static_cast<uint32_t>(partition.segments.size());
  if (grown > partition.options.capacity_segments) {
    partition.Log(LogLevel::kWarn,
                  "the store has grown to " + std::to_string(grown) + " segments; a capacity of " +
                      std::to_string(partition.options.capacity_segments) + " has no effect");
    partition.options.capacity_segments = grown;
  }
  if (partition.stats.recovery_lost_batches > 0) {
    // So that the next start neither reads nor reports the same damage as new.
    RunToEnd(device, store->checkpointer_.Write());
  }
  store->open_ = true;
  return store;
}

void ChunkStore::Submit(StoreRequest* request) {
  ++requests_;
  request->next = nullptr;
  request->hashed = false;
  request->charge = 0;
  request->out_length = request->out_crc = request->out_chunk_length = 0;
  request->out_value = 0;
  request->out_id = request->id;
  request->os_error = 0;
  request->has_turn = false;
  switch (request->op) {
    case PortOp::kPut:
    case PortOp::kGet:
    case PortOp::kDelete:
      return TakeTurn(request);
    default:
      // Asks nothing of the device, or asks for a turn for each of its steps.
      return Dispatch(request);
  }
}

void ChunkStore::TakeTurn(StoreRequest* request) {
  QosItem& turn = request->turn;
  turn.qos_class = request->qos_class;
  turn.cost = request->op == PortOp::kDelete ? 1 : CostUnits(request->length);
  turn.context = request;
  request->store = this;
  turn.run = [](QosItem* item) {
    auto* owner = static_cast<StoreRequest*>(item->context);
    owner->store->Dispatch(owner);
  };
  request->has_turn = true;
  if (partition_.scheduler.Enter(&turn)) return;
  request->has_turn = false;
  Complete(request, ErrorCode::kOverloaded);
}

void ChunkStore::Dispatch(StoreRequest* request) {
  if (partition_.closing) return Complete(request, ErrorCode::kClosed);
  switch (request->op) {
    case PortOp::kPut:
      return Put(request);
    case PortOp::kGet:
      return Get(request);
    case PortOp::kHas:
      return Has(request);
    case PortOp::kDelete:
      return Delete(request);
    case PortOp::kList:
      return List(request);
    case PortOp::kScrub:
      return static_cast<void>(Spawn(partition_.tasks, RunScrub(request)));
    case PortOp::kCollect:
      return static_cast<void>(Spawn(partition_.tasks, RunCollect(request)));
    case PortOp::kStats: {
      const StoreStats stats = Stats();
      std::memcpy(request->data, &stats, sizeof stats);
      request->out_length = sizeof stats;
      return Complete(request, ErrorCode::kOk);
    }
    case PortOp::kNop:
    case PortOp::kSync:
      return Complete(request, ErrorCode::kOk);
  }
  Complete(request, ErrorCode::kInvalidArgument);
}

void ChunkStore::HashPayload(StoreRequest& request) {
  if (request.hashed) return;
  request.hashed = true;
  const std::span<const std::byte> payload(request.data, request.length);
  RecordHeader& record = request.write.record;
  request.write.block_crcs.clear();
  if (request.length <= kCrcBlockBytes) {
    record.crc = Crc32c(payload);
    return;
  }
  uint32_t crc = 0;
  for (uint32_t at = 0; at < request.length; at += kCrcBlockBytes) {
    const uint32_t step = std::min(kCrcBlockBytes, request.length - at);
    const uint32_t block = Crc32c(payload.subspan(at, step));
    request.write.block_crcs.push_back(block);
    crc = Crc32cCombine(crc, block, step);
  }
  record.crc = crc;
}

void ChunkStore::Put(StoreRequest* request) {
  if (request->length == 0 || request->length > partition_.max_chunk_bytes()) {
    return Complete(request, ErrorCode::kInvalidArgument);
  }
  if (!request->hashed) {
    request->write.record = RecordHeader{};
    HashPayload(*request);
  }
  RecordHeader& record = request->write.record;
  request->out_crc = record.crc;
  request->out_chunk_length = request->length;
  if (request->checks_crc && record.crc != request->expected_crc) {
    return Complete(request, ErrorCode::kProtocolError);
  }
  if (gate_.busy(request->id)) return gate_.Park(request);
  const auto entry = partition_.index.Find(request->id);
  if (entry) {
    if (entry->crc != record.crc || entry->length != request->length) {
      return Complete(request, ErrorCode::kConflict);
    }
    if (!entry->damaged) return Complete(request, ErrorCode::kOk);
  }
  if (partition_.offline) return Complete(request, ErrorCode::kDeviceOffline);
  // A damaged copy is replaced by a good one: that is how a repair arrives. One record does it all,
  // so that no crash can leave neither; it names the bad copy, so that no replay of the log can
  // take that one for the chunk later. It takes the space that the bad copy gives back.
  record.flags = entry ? kRecordRepairs : 0;
  record.source_segment = entry ? partition_.SegmentOf(*entry) : kNoSegment;
  record.source_generation = entry ? partition_.segments[record.source_segment].generation : 0;
  if (!entry) {
    const uint64_t charge = ChargeOf(request->length);
    if (partition_.stats.live_bytes + reserved_bytes_ + charge > partition_.limit_bytes()) {
      partition_.collect_now = true;
      return Complete(request, ErrorCode::kInsufficientStorage);
    }
    reserved_bytes_ += charge;
    request->charge = charge;
  }
  record.type = static_cast<uint8_t>(RecordType::kPut);
  record.length = request->length;
  record.id = request->id;
  WriteOp& op = request->write;
  op.kind = WriteOp::Kind::kPut;
  op.payload = request->data;
  Append(request);
}

void ChunkStore::Delete(StoreRequest* request) {
  if (gate_.busy(request->id)) return gate_.Park(request);
  const auto entry = partition_.index.Find(request->id);
  if (!entry) return Complete(request, ErrorCode::kChunkNotFound);
  if (partition_.offline) return Complete(request, ErrorCode::kDeviceOffline);
  AppendDelete(request, *entry);
}

void ChunkStore::AppendDelete(StoreRequest* request, const IndexEntry& entry) {
  WriteOp& op = request->write;
  op.record = RecordHeader{};
  op.block_crcs.clear();
  op.record.type = static_cast<uint8_t>(RecordType::kDelete);
  op.record.id = request->id;
  op.record.source_segment = partition_.SegmentOf(entry);
  op.record.source_generation = partition_.segments[op.record.source_segment].generation;
  op.kind = WriteOp::Kind::kDelete;
  op.payload = nullptr;
  Append(request);
}

void ChunkStore::Append(StoreRequest* request) {
  request->store = this;
  request->write.context = request;
  request->write.done = [](WriteOp* op, ErrorCode code) {
    auto* owner = static_cast<StoreRequest*>(op->context);
    owner->store->Written(owner, code);
  };
  gate_.Enter(request->id);
  writer_.Enqueue(kUserStream, &request->write);
}

void ChunkStore::Written(StoreRequest* request, ErrorCode code) {
  reserved_bytes_ -= request->charge;
  request->charge = 0;
  gate_.Leave(request->id);
  if (code == ErrorCode::kDeviceOffline) request->os_error = partition_.offline_errno;
  if (code == ErrorCode::kOk) {
    ++(request->op == PortOp::kPut ? partition_.stats.puts : partition_.stats.deletes);
  }
  Complete(request, code);
}

void ChunkStore::Get(StoreRequest* request) {
  const auto entry = partition_.index.Find(request->id);
  if (!entry) return Complete(request, ErrorCode::kChunkNotFound);
  request->out_crc = entry->crc;
  request->out_chunk_length = entry->length;
  if (request->chunk_offset > entry->length) return Complete(request, ErrorCode::kInvalidArgument);
  const uint32_t length = std::min(request->length, entry->length - request->chunk_offset);
  if (length == 0) return Complete(request, ErrorCode::kOk);
  if (reader_.ReadCached(*entry, request->chunk_offset, length, request->data)) {
    request->out_length = length;
    ++partition_.stats.gets;
    return Complete(request, ErrorCode::kOk);
  }
  Spawn(partition_.tasks, RunGet(request, *entry));
}

Task<void> ChunkStore::RunGet(StoreRequest* request, IndexEntry entry) {
  const uint32_t length = std::min(request->length, entry.length - request->chunk_offset);
  const ReadResult result =
      co_await reader_.Read(entry, request->chunk_offset, length, request->data);
  request->out_length = result.code == ErrorCode::kOk ? result.length : 0;
  request->os_error = result.os_error;
  if (result.code == ErrorCode::kOk) ++partition_.stats.gets;
  Complete(request, result.code);
}

void ChunkStore::Has(StoreRequest* request) {
  const auto entry = partition_.index.Find(request->id);
  // Who asks relies on it, and may give up the copy that is left: what cannot be read is not there.
  if (!entry || entry->damaged) return Complete(request, ErrorCode::kChunkNotFound);
  request->out_crc = entry->crc;
  request->out_chunk_length = entry->length;
  Complete(request, ErrorCode::kOk);
}

void ChunkStore::List(StoreRequest* request) {
  if (request->length == 0) return Complete(request, ErrorCode::kInvalidArgument);
  std::vector<IndexEntry> entries;
  partition_.index.List(request->id, size_t{request->length} + 1, entries);
  if (entries.size() > request->length) {
    request->out_value = 1;
    request->out_id = entries.back().id;
    entries.pop_back();
  }
  std::byte* out = request->data;
  for (const IndexEntry& entry : entries) {
    const ListRecord record{entry.id, entry.length, entry.crc, entry.damaged ? 1U : 0U, 0};
    std::memcpy(out, &record, sizeof record);
    out += sizeof record;
  }
  request->out_length = static_cast<uint32_t>(entries.size());
  Complete(request, ErrorCode::kOk);
}

Task<void> ChunkStore::RunScrub(StoreRequest* request) {
  const Scrubber::Step step =
      co_await scrubber_.Run(request->position, request->budget_bytes, request->length);
  const size_t count = std::min<size_t>(step.findings.size(), request->length);
  if (count > 0) std::memcpy(request->data, step.findings.data(), count * sizeof(ScrubFinding));
  request->out_length = static_cast<uint32_t>(count);
  request->out_value = step.next_position;
  Complete(request, ErrorCode::kOk);
}

Task<void> ChunkStore::RunCollect(StoreRequest* request) {
  request->out_value = co_await collector_.CollectOne();
  Complete(request, ErrorCode::kOk);
}

void ChunkStore::Complete(StoreRequest* request, ErrorCode code) {
  request->status = code;
  if (request->has_turn) {
    request->has_turn = false;
    partition_.scheduler.Leave(&request->turn);
  }
  completed_.Push(request);
}

size_t ChunkStore::Drain() {
  size_t count = 0;
  while (StoreRequest* request = completed_.Pop()) {
    --requests_;
    ++count;
    request->done(request);
  }
  return count;
}

void ChunkStore::Background() {
  // Puts wait for space: what wins it waits for nobody.
  if (writer_.starved() || partition_.collect_now) partition_.scheduler.Release(kBackgroundClass);
  grower_.Pump(writer_.starved());
  collector_.Pump();
  checkpointer_.Pump();
  // Puts wait for space, and there is no more to be had: say so instead of hanging.
  if (writer_.starved() && !grower_.running() && !collector_.running() &&
      !checkpointer_.running() && partition_.ungrown_segments() == 0 && collector_.exhausted()) {
    writer_.FailQueuedPuts(ErrorCode::kInsufficientStorage);
  }
}

size_t ChunkStore::Poll() {
  size_t work = 0;
  while (StoreRequest* request = gate_.PopReady()) {
    Dispatch(request);
    ++work;
  }
  work += partition_.scheduler.Pump();
  Background();
  work += writer_.Pump();
  work += Drain();
  if (work > 0 || !writer_.idle()) {
    idle_since_us_ = 0;
  } else if (!writer_.vouched()) {
    const uint64_t now = partition_.Now();
    if (idle_since_us_ == 0) idle_since_us_ = now;
    if (now - idle_since_us_ >= partition_.options.vouch_after_us) {
      writer_.Vouch();
      idle_since_us_ = 0;
    }
  }
  return work;
}

bool ChunkStore::idle() const {
  return requests_ == 0 && partition_.tasks.running == 0 && writer_.idle() && !gate_.has_ready();
}

uint64_t ChunkStore::NextTimerUs() const {
  const uint64_t vouching =
      writer_.vouched() ? 1000000 : std::max<uint64_t>(partition_.options.vouch_after_us, 1000);
  return std::min(vouching, partition_.scheduler.NextTimerUs());
}

void ChunkStore::Abandon() {
  partition_.scheduler.SetOpen(true);
  partition_.closing = true;
  if (!partition_.offline) partition_.GoOffline("abandoned", -ECANCELED);
  while (!idle() || partition_.device.in_flight() > 0) {
    partition_.device.Poll(1000);
    Poll();
    partition_.settled.WakeAll();
  }
  open_ = false;
}

Status ChunkStore::Close() {
  if (!open_) return {};
  partition_.scheduler.SetOpen(true);
  while (requests_ > 0 || !writer_.idle() || gate_.has_ready()) {
    Poll();
    partition_.device.Poll(1000);
  }
  partition_.closing = true;  // background work finishes what it has begun, and begins nothing
  while (!idle() || partition_.device.in_flight() > 0) {
    Poll();
    partition_.device.Poll(1000);
  }
  open_ = false;
  if (partition_.offline) {
    return Error{ErrorCode::kDeviceOffline, "the device went offline; no checkpoint was written"};
  }
  const bool nothing_new = partition_.superblock.checkpoint_id != 0 &&
                           partition_.superblock.replay_from == partition_.applied_sequence;
  if (nothing_new || RunToEnd(partition_.device, checkpointer_.Write())) return {};
  return Error{partition_.offline ? ErrorCode::kDeviceOffline : ErrorCode::kInsufficientStorage,
               "no checkpoint could be written; the next start replays the log"};
}

StoreStats ChunkStore::Stats() const {
  StoreStats stats = partition_.stats;
  stats.chunks = partition_.index.size();
  stats.capacity_bytes = partition_.capacity_bytes();
  stats.limit_bytes = partition_.limit_bytes();
  stats.grown_bytes = partition_.segments.size() * partition_.segment_bytes();
  for (const Segment& segment : partition_.segments) {
    (segment.state == SegmentState::kFree ? stats.segments_free : stats.segments_used) += 1;
    stats.segments_damaged += (segment.flags & kSegmentDamaged) != 0 ? 1U : 0U;
  }
  stats.index_bytes = partition_.index.memory_bytes();
  stats.cache_bytes = partition_.cache.bytes();
  stats.partitions = 1;
  return stats;
}

}  // namespace pando
