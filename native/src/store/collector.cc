#include "store/collector.h"

#include <algorithm>
#include <cstring>

#include "pando/crc32c.h"
#include "qos/device_turn.h"

namespace pando {
namespace {

constexpr uint32_t kMaxMoves = 64;  // copies in memory at once: at most this many chunks
constexpr uint64_t kMaxMoveBytes = 8ULL << 20U;

}  // namespace

// Cost-benefit (Rosenblum and Ousterhout, 1992): free space won times age, over the cost of reading
// the segment and writing what lives in it.
std::optional<uint32_t> Collector::ChooseVictim(bool urgent) const {
  const uint64_t usable = uint64_t{partition_.log_pages()} * kPageBytes;
  const double free_share =
      static_cast<double>(partition_.free_segments() + partition_.ungrown_segments()) /
      static_cast<double>(partition_.segments.size() + partition_.ungrown_segments());
  // The fuller the store, the fuller a segment may be and still be worth collecting.
  double most = urgent ? 0.985 : std::clamp(0.95 - 2.0 * free_share, 0.0, 0.95);
  std::optional<uint32_t> best;
  double best_score = -1;
  for (uint32_t i = 0; i < partition_.segments.size(); ++i) {
    const Segment& segment = partition_.segments[i];
    if (segment.state != SegmentState::kSealed) continue;
    if ((segment.flags & kSegmentBlocked) != 0) continue;
    if ((segment.flags & kSegmentVictim) != 0) return i;
    const double used = static_cast<double>(segment.live_bytes + segment.tombstones * kSlotBytes) /
                        static_cast<double>(usable);
    if (segment.live_chunks == 0 && segment.tombstones == 0) return i;  // costs nothing
    if (used > most) continue;
    const double age =
        static_cast<double>(partition_.applied_sequence - segment.sealed_sequence + 1);
    const double score = (1 - used) * age / (1 + used);
    if (score > best_score) {
      best_score = score;
      best = i;
    }
  }
  return best;
}

void Collector::Pump() {
  if (running_ || partition_.offline || partition_.closing ||
      !partition_.options.collect_in_background) {
    return;
  }
  if (exhausted_ && partition_.stats.puts + partition_.stats.deletes == exhausted_changes_) return;
  exhausted_ = false;
  const bool urgent = partition_.collect_now;
  const uint64_t total = partition_.segments.size() + partition_.ungrown_segments();
  const uint64_t free = partition_.free_segments() + partition_.ungrown_segments();
  if (!urgent && free * 4 > total) return;
  const auto victim = ChooseVictim(urgent);
  partition_.collect_now = false;
  if (urgent) JudgeProgress();
  if (urgent && !victim) exhausted_ = true;
  if (exhausted_) exhausted_changes_ = partition_.stats.puts + partition_.stats.deletes;
  if (exhausted_ || !victim) return;
  running_ = true;
  Spawn(partition_.tasks, RunInBackground(*victim));
}

// Copying full segments about wins nothing. After a round of that, say so.
void Collector::JudgeProgress() {
  constexpr uint32_t kRound = 64;
  const bool progress =
      partition_.free_segments() > most_free_ || partition_.stats.puts != judged_puts_;
  judged_puts_ = partition_.stats.puts;
  if (progress) {
    most_free_ = partition_.free_segments();
    fruitless_ = 0;
  } else if (++fruitless_ > std::min<size_t>(kRound, partition_.segments.size())) {
    exhausted_ = true;
    fruitless_ = 0;
    most_free_ = 0;
  }
}

Task<void> Collector::RunInBackground(uint32_t victim) {
  co_await Collect(victim);
  running_ = false;
}

Task<uint32_t> Collector::CollectOne() {
  if (running_ || partition_.offline) co_return 0;
  const auto victim = ChooseVictim(true);
  if (!victim) co_return 0;
  running_ = true;
  const bool freed = co_await Collect(*victim);
  running_ = false;
  co_return freed ? 1 : 0;
}

// A delete may be forgotten once nothing can bring its chunk back: the checkpoint knows of it, and
// the segment with the dead copy has been reused or freed.
bool Collector::DeleteIsNeeded(uint32_t victim, const RecordHeader& record) const {
  // That the id was written anew since does not matter: a later delete of that copy says nothing
  // about this one. Nor may one be forgotten while a half-collected segment holds copies nobody
  // keeps book of.
  for (uint32_t i = 0; i < partition_.segments.size(); ++i) {
    if (i != victim && (partition_.segments[i].flags & kSegmentVictim) != 0) return true;
  }
  if (record.origin_sequence > partition_.superblock.replay_from) return true;
  if (record.source_segment >= partition_.segments.size()) return false;
  const Segment& source = partition_.segments[record.source_segment];
  return source.generation == record.source_generation && source.state != SegmentState::kFree;
}

// What of a batch must survive its segment.
std::vector<RecordHeader> Collector::WantedRecords(uint32_t victim,
                                                   const WalkedBatch& batch) const {
  std::vector<RecordHeader> wanted;
  std::vector<RecordView> views;
  if (!DecodeRecords(batch.page, batch.header, views).ok()) return wanted;
  const uint64_t base = partition_.OffsetOf(victim, batch.header.page) / kSlotBytes;
  for (const RecordView& view : views) {
    const RecordHeader& record = view.header;
    if (static_cast<RecordType>(record.type) == RecordType::kDelete) {
      if (DeleteIsNeeded(victim, record)) wanted.push_back(record);
      continue;
    }
    if ((record.flags & kRecordRepairs) != 0) {
      // Whatever becomes of the good copy, the bad one is dead: from here on a delete says so.
      RecordHeader cover;
      cover.type = static_cast<uint8_t>(RecordType::kDelete);
      cover.id = record.id;
      cover.source_segment = record.source_segment;
      cover.source_generation = record.source_generation;
      cover.origin_sequence = batch.header.sequence;
      if (DeleteIsNeeded(victim, cover)) wanted.push_back(cover);
    }
    const auto entry = partition_.index.Find(record.id);
    if (entry && entry->address == base + record.position) wanted.push_back(record);
  }
  return wanted;
}

Task<bool> Collector::Collect(uint32_t victim) {
  Segment& segment = partition_.segments[victim];
  segment.flags |= kSegmentVictim;
  in_flight_ = 0;
  failed_ = false;
  if (segment.live_chunks > 0 || segment.tombstones > 0) {
    LogWalker walker(partition_, victim, segment.generation, 0, LogWalker::kUnknownCrc);
    while (!partition_.offline && !failed_) {
      const bool more = co_await walker.Next();
      if (more ? walker.batch().after_gap && walker.batch().gap_unread : walker.end_unread()) {
        partition_.segments[victim].flags |= kSegmentDamaged;
      }
      if (!more) break;
      const std::vector<RecordHeader> wanted = WantedRecords(victim, walker.batch());
      if (!wanted.empty()) co_await MoveBatch(victim, walker.batch().header, wanted);
    }
    while (in_flight_ > 0) co_await partition_.settled.Wait();
    if (!failed_ && partition_.segments[victim].live_chunks > 0) co_await MoveStragglers(victim);
    while (in_flight_ > 0) co_await partition_.settled.Wait();
  }
  if (partition_.offline || failed_) co_return false;
  if (partition_.segments[victim].live_chunks > 0) {
    // Something in it cannot be read. It stays as it is, for a repair from another copy.
    partition_.segments[victim].flags |= kSegmentBlocked;
    co_return false;
  }
  // Where a batch was lost, rotten bits are written over; a place that the device cannot read might
  // not take a write either, and that would cost the whole device. The first page alone tells a
  // start that a free segment holds nothing: without it the store would not be opened.
  const bool damaged = (partition_.segments[victim].flags & kSegmentDamaged) != 0;
  bool readable = co_await IsFirstPageReadable(victim);
  if (readable && damaged) readable = co_await IsReadable(victim);
  if (partition_.offline) co_return false;
  if (!readable) {
    partition_.segments[victim].flags |= kSegmentDamaged | kSegmentBlocked;
    partition_.Log(LogLevel::kWarn, "segment " + std::to_string(victim) +
                                        " was emptied; the device cannot read all of it, so it "
                                        "is not used again");
    co_return false;
  }
  while (partition_.segments[victim].pins > 0) co_await partition_.unpinned.Wait();
  const bool marked = co_await WriteFreeMarker(victim);
  if (!marked) co_return false;
  while (partition_.segments[victim].pins > 0) co_await partition_.unpinned.Wait();
  partition_.SetFree(victim);
  partition_.DropFindings(victim);
  ++partition_.stats.segments_collected;
  co_return true;
}

struct Collector::Move {
  explicit Move(Collector& owner, double cost)
      : collector(&owner), turn(owner.partition_.scheduler, kBackgroundClass, cost) {}
  Collector* collector;
  DeviceTurn turn;  // ends with the move
  WriteOp op;
  AlignedBuffer buffer;
};

Task<bool> Collector::MoveBatch(uint32_t victim, BatchHeader header,
                                const std::vector<RecordHeader>& records) {
  uint64_t bytes = 0;
  for (const RecordHeader& record : records) {
    if (partition_.offline || failed_) co_return false;
    if (static_cast<RecordType>(record.type) == RecordType::kDelete) {
      co_await CarryDelete(record);
      continue;
    }
    IndexEntry entry;
    entry.id = record.id;
    entry.crc = record.crc;
    entry.length = record.length;
    entry.address = partition_.OffsetOf(victim, header.page) / kSlotBytes + record.position;
    entry.header_distance = record.position / (kPageBytes / kSlotBytes);
    bytes += record.length;
    while (in_flight_ >= kMaxMoves || (in_flight_ > 0 && bytes > kMaxMoveBytes)) {
      co_await partition_.settled.Wait();
      if (in_flight_ == 0) bytes = record.length;
    }
    co_await MoveChunk(entry, victim);
  }
  co_return true;
}

Task<bool> Collector::MoveChunk(IndexEntry entry, uint32_t victim) {
  const auto before = partition_.index.Find(entry.id);
  if (!before || before->address != entry.address || before->damaged) co_return false;
  // Read and written again.
  auto move = std::make_unique<Move>(*this, 2 * CostUnits(entry.length));
  co_await move->turn;
  while (gate_.busy(entry.id) && !partition_.offline) co_await partition_.settled.Wait();
  const auto now = partition_.index.Find(entry.id);
  if (partition_.offline || !now || now->address != entry.address || now->damaged) co_return false;
  gate_.Enter(entry.id);
  move->buffer = AlignedBuffer(RoundUp(entry.length, kPageBytes) + kPageBytes);
  uint32_t actual = 0;
  const ReadResult read = co_await reader_.ReadWhole(entry, move->buffer.data(), &actual);
  if (read.code != ErrorCode::kOk) {
    if (read.code == ErrorCode::kCorruptChunk) {
      ++partition_.stats.corrupt_reads;
      partition_.MarkDamaged(entry);
    }
    partition_.Log(LogLevel::kError, "chunk " + entry.id.ToHex() + " cannot be moved: " +
                                         std::string(ErrorCodeName(read.code)));
    gate_.Leave(entry.id);
    co_return false;
  }
  WriteOp& op = move->op;
  op.kind = WriteOp::Kind::kMove;
  op.record.type = static_cast<uint8_t>(RecordType::kPut);
  op.record.flags = kRecordMoved;
  op.record.length = entry.length;
  op.record.id = entry.id;
  op.record.crc = entry.crc;
  op.record.source_segment = victim;
  op.record.source_generation = partition_.segments[victim].generation;
  op.payload = move->buffer.data();
  if (entry.length > kCrcBlockBytes) {
    for (uint32_t at = 0; at < entry.length; at += kCrcBlockBytes) {
      const uint32_t step = std::min(kCrcBlockBytes, entry.length - at);
      op.block_crcs.push_back(Crc32c(move->buffer.span().subspan(at, step)));
    }
  }
  op.context = move.get();
  op.done = [](WriteOp* finished, ErrorCode code) {
    const std::unique_ptr<Move> owned(static_cast<Move*>(finished->context));
    Collector& self = *owned->collector;
    self.gate_.Leave(finished->record.id);
    --self.in_flight_;
    if (code != ErrorCode::kOk) self.failed_ = true;
    if (code == ErrorCode::kOk) self.partition_.stats.bytes_moved += finished->record.length;
  };
  ++in_flight_;
  writer_.Enqueue(kMoveStream, &move.release()->op);
  co_return true;
}

Task<bool> Collector::CarryDelete(RecordHeader record) {
  while (in_flight_ >= kMaxMoves) co_await partition_.settled.Wait();
  if (partition_.offline) co_return false;
  // Not through the gate: a put of the same id may be waiting there for the space that we are
  // winning. A carried delete concerns only what was written before its original, however late it
  // is carried.
  auto move = std::make_unique<Move>(*this, 1);
  WriteOp& op = move->op;
  op.kind = WriteOp::Kind::kCarry;
  op.record = record;
  op.record.extra_slots = 0;
  op.record.flags |= kRecordCarried;
  op.context = move.get();
  op.done = [](WriteOp* finished, ErrorCode code) {
    const std::unique_ptr<Move> owned(static_cast<Move*>(finished->context));
    --owned->collector->in_flight_;
    if (code != ErrorCode::kOk) owned->collector->failed_ = true;
  };
  ++in_flight_;
  writer_.Enqueue(kMoveStream, &move.release()->op);
  co_return true;
}

// Chunks that the walk did not meet, because the header of their batch is unreadable: the index
// still knows where they are.
Task<bool> Collector::MoveStragglers(uint32_t victim) {
  std::vector<IndexEntry> entries;
  partition_.index.ForEach([&](const IndexEntry& entry) {
    if (partition_.SegmentOf(entry) == victim) entries.push_back(entry);
  });
  for (const IndexEntry& entry : entries) {
    if (partition_.offline || failed_) co_return false;
    while (in_flight_ >= kMaxMoves / 16) co_await partition_.settled.Wait();
    co_await MoveChunk(entry, victim);
  }
  co_return true;
}

Task<bool> Collector::IsFirstPageReadable(uint32_t victim) {
  AlignedBuffer page(kPageBytes);
  const int64_t moved =
      co_await ReadPatiently(partition_.device, partition_.OffsetOf(victim, 0), page.span());
  co_return moved == static_cast<int64_t>(kPageBytes);
}

Task<bool> Collector::IsReadable(uint32_t victim) {
  constexpr uint32_t kPages = 64;
  AlignedBuffer buffer(size_t{kPages} * kPageBytes);
  for (uint32_t page = 0; page < partition_.superblock.segment_pages; page += kPages) {
    const size_t bytes =
        size_t{std::min(kPages, partition_.superblock.segment_pages - page)} * kPageBytes;
    const int64_t moved =
        co_await DeviceIo(partition_.device, BlockRequest::Op::kRead,
                          partition_.OffsetOf(victim, page), buffer.data(), bytes);
    if (moved != static_cast<int64_t>(bytes)) co_return false;
  }
  co_return true;
}

Task<bool> Collector::WriteFreeMarker(uint32_t victim) {
  BatchHeader header;
  header.kind = static_cast<uint16_t>(BatchKind::kFree);
  header.uuid = partition_.superblock.uuid;
  header.segment = victim;
  header.generation = partition_.segments[victim].generation;
  header.page = partition_.marker_page();
  header.durable_sequence = partition_.applied_sequence;
  AlignedBuffer page(kPageBytes);
  std::memcpy(page.data(), &header, sizeof header);
  SealHeaderPage(page.span());
  const int64_t moved = co_await DeviceIo(partition_.device, BlockRequest::Op::kWrite,
                                          partition_.OffsetOf(victim, partition_.marker_page()),
                                          page.data(), kPageBytes, true);
  if (moved != static_cast<int64_t>(kPageBytes)) {
    partition_.GoOffline("a free marker write", moved);
    co_return false;
  }
  co_return true;
}

}  // namespace pando
