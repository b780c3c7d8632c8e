#include "store/recovery.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <unordered_map>

#include "pando/crc32c.h"
#include "store/checkpointer.h"

namespace pando {
namespace {

constexpr uint64_t kNobody = ~uint64_t{0};  // no batch was found behind

}  // namespace

Task<Result<Superblock>> Recovery::ReadSuperblock(BlockDevice& device) {
  AlignedBuffer page(kPageBytes);
  std::optional<Superblock> best;
  std::optional<Error> refused;
  Error last{ErrorCode::kCorruptChunk, "no superblock"};
  std::array<uint32_t, kSuperblockCopies / 2> unread = {};
  for (uint64_t copy = 0; copy < kSuperblockCopies; ++copy) {
    const int64_t moved = co_await ReadPatiently(device, copy * kSuperblockSpacing, page.span());
    if (moved < 0) ++unread[copy / 2];
    if (moved != static_cast<int64_t>(kPageBytes)) continue;
    const auto superblock = DecodeSuperblock(page.span());
    if (!superblock.ok()) {
      if (superblock.code() == ErrorCode::kInvalidArgument) refused = superblock.error();
      last = superblock.error();
      continue;
    }
    if (!best || superblock.value().sequence > best->sequence) best = superblock.value();
  }
  // A copy by a newer build means that a newer build owns the store, whatever older copies say.
  if (refused) co_return *refused;
  // An update writes one pair: it may be the newer one, of whose checkpoint the older knows nothing.
  if (std::any_of(unread.begin(), unread.end(), [](uint32_t copies) { return copies == 2; })) {
    co_return Error{ErrorCode::kIoError, "the device cannot read the superblock"};
  }
  if (!best) co_return Error{ErrorCode::kCorruptChunk, "no readable superblock: " + last.message};
  co_return *best;
}

Task<Status> Recovery::Run() {
  const uint64_t started = partition_.Now();
  const uint64_t data =
      partition_.device.size() > kDataOffset ? partition_.device.size() - kDataOffset : 0;
  partition_.segments.resize(data / partition_.segment_bytes());
  vouched_positions_.resize(partition_.segments.size());
  co_await LoadTable();
  for (uint32_t i = 0; i < partition_.segments.size() && !refusal_; ++i) co_await ProbeSegment(i);
  if (refusal_) co_return *refusal_;
  co_await WalkAll();
  std::sort(batches_.begin(), batches_.end(),
            [](const ReplayBatch& a, const ReplayBatch& b) { return a.sequence < b.sequence; });
  FindVouched();
  co_await CutTail();
  RefuseUnread();
  if (refusal_) co_return *refusal_;
  const bool erased = co_await EraseDiscarded();
  if (!erased) {
    co_return Error{ErrorCode::kIoError, "the device refuses writes during recovery"};
  }
  Replay();
  ReportGaps();
  partition_.RecountLive();
  OpenStreams();
  partition_.RecountFree();
  partition_.applied_sequence = last_good_;
  writer_.SetSequence(last_good_);
  partition_.stats.recovery_us = partition_.Now() - started;
  co_return Status();
}

Task<void> Recovery::LoadTable() {
  const Superblock superblock = partition_.superblock;
  if (superblock.checkpoint_id != 0) {
    have_checkpoint_ = co_await LoadCheckpoint(partition_);
    if (!have_checkpoint_) {
      partition_.Log(LogLevel::kWarn, "the checkpoint is damaged; replaying the whole log instead");
      // From here on there is none: its segments are free like others, and no delete is covered by
      // it.
      partition_.superblock.checkpoint_segment_count = 0;
      partition_.superblock.replay_from = 0;
    }
  }
  replay_from_ = have_checkpoint_ ? superblock.replay_from : 0;
  vouched_ = replay_from_;
  last_good_ = replay_from_;
  for (Segment& segment : partition_.segments) {
    if (segment.state == SegmentState::kCheckpoint) segment.state = SegmentState::kFree;
  }
  if (have_checkpoint_) {
    for (uint32_t i = 0; i < superblock.checkpoint_segment_count; ++i) {
      partition_.segments[superblock.checkpoint_segments[i]].state = SegmentState::kCheckpoint;
    }
  }
}

// What became of the segment since the checkpoint? Its first page and its free marker tell.
Task<void> Recovery::ProbeSegment(uint32_t index) {
  Segment& segment = partition_.segments[index];
  AlignedBuffer pages(2 * kPageBytes);
  const auto first = pages.span().first(kPageBytes);
  const auto last = pages.span().subspan(kPageBytes);
  bool read[2] = {};
  const uint32_t numbers[2] = {0, partition_.marker_page()};
  for (size_t i = 0; i < 2; ++i) {
    const auto page = pages.span().subspan(i * kPageBytes, kPageBytes);
    const int64_t moved =
        co_await ReadPatiently(partition_.device, partition_.OffsetOf(index, numbers[i]), page);
    read[i] = moved == static_cast<int64_t>(kPageBytes);
    if (!read[i]) std::memset(page.data(), 0, kPageBytes);
  }
  const auto head = DecodeBatchHeader(first, partition_.ContextOf(index, 0));
  const auto mark = DecodeBatchHeader(last, partition_.ContextOf(index, partition_.marker_page()));
  uint32_t freed = 0;
  if (mark.ok() && mark.value().kind == static_cast<uint16_t>(BatchKind::kFree)) {
    freed = mark.value().generation;
    vouched_ = std::max(vouched_, mark.value().durable_sequence);
  }
  if (segment.state == SegmentState::kCheckpoint) co_return;
  // With a checkpoint, or if there never was one, the log undoes what a segment brings back whose
  // marker is not seen. Without one that there was, the deletes that it covered may be gone.
  if (!read[1] && !have_checkpoint_ && partition_.superblock.checkpoint_id != 0) {
    co_return Refuse(index, numbers[1]);
  }

  const auto set_free = [&segment](uint32_t generation) {
    segment = Segment{};
    segment.generation = generation;
  };
  const uint32_t known = segment.generation;  // 0 without a checkpoint
  const bool in_use = segment.state != SegmentState::kFree;
  if (head.ok() && head.value().kind == static_cast<uint16_t>(BatchKind::kCheckpoint)) {
    // Of a checkpoint that was replaced or never finished.
    set_free(std::max({known, freed, head.value().generation}));
    co_return;
  }
  uint32_t generation = 0;
  if (head.ok() && head.value().kind == static_cast<uint16_t>(BatchKind::kData)) {
    generation = head.value().generation;
    if (in_use && known > generation) generation = known;
  } else if (in_use && freed < known && (read[0] || read[1])) {
    generation = known;  // the first page has rotted, the checkpoint knows better
  } else {
    const bool blank = read[0] && read[1] &&
                       std::all_of(pages.data(), pages.data() + pages.size(),
                                   [](std::byte b) { return b == std::byte{0}; });
    // A lost first write is found by the batch behind it; a segment that was never written is not
    // read to its end for that.
    constexpr uint32_t kBlankPages = kMaxChunkBytes / kPageBytes + 3;
    const uint32_t span =
        blank ? std::min(kBlankPages, partition_.marker_page()) : partition_.marker_page();
    generation = co_await FindGeneration(partition_, index, std::max(known, freed), span);
    // Nothing newer behind it, but there may be one acknowledged batch, which begins there.
    if (!read[0] && generation == 0) co_return Refuse(index, 0);
  }
  if (generation <= freed || (!in_use && generation <= known)) {
    set_free(std::max({generation, freed, known}));
    co_return;
  }
  if (!in_use || generation != known) {
    segment = Segment{};
    segment.generation = generation;
    segment.state = SegmentState::kOpen;
  }
  if (segment.state == SegmentState::kOpen) to_walk_.push_back(index);
}

void Recovery::Collect(const WalkedBatch& batch) {
  const BatchHeader& header = batch.header;
  vouched_ = std::max(vouched_, header.durable_sequence);
  for (const StreamPosition& position : header.durable) {
    if (position.segment >= vouched_positions_.size()) continue;
    StreamPosition& known = vouched_positions_[position.segment];
    if (position.generation > known.generation ||
        (position.generation == known.generation && position.pages > known.pages)) {
      known = position;
    }
  }
  ReplayBatch replay;
  replay.sequence = header.sequence;
  replay.segment = header.segment;
  replay.page = header.page;
  replay.pages = 1 + header.payload_pages;
  replay.crc = header.crc;
  replay.stream = header.stream;
  replay.seals = (header.flags & kBatchSeals) != 0;
  replay.first_record = static_cast<uint32_t>(records_.size());
  // A page whose checksum holds but whose records do not decode was not written by this program.
  if (DecodeRecords(batch.page, header, scratch_).ok()) {
    for (const RecordView& view : scratch_) records_.push_back(view.header);
  }
  replay.record_count = static_cast<uint32_t>(records_.size()) - replay.first_record;
  batches_.push_back(replay);
}

Task<void> Recovery::WalkAll() {
  for (const uint32_t index : to_walk_) {
    const Segment& segment = partition_.segments[index];
    LogWalker walker(partition_, index, segment.generation, segment.applied_pages,
                     segment.applied_crc);
    for (;;) {
      const bool more = co_await walker.Next();
      if (!more) break;
      const WalkedBatch& batch = walker.batch();
      if (batch.after_gap) {
        gaps_.push_back({index, batch.gap_page, batch.header.sequence, batch.gap_unread});
      }
      Collect(batch);
    }
    if (walker.end_unread()) gaps_.push_back({index, walker.end_page(), kNobody, true});
  }
}

void Recovery::Refuse(uint32_t segment, uint32_t page) {
  if (refusal_) return;
  refusal_ = Error{ErrorCode::kIoError,
                   "the device cannot read segment " + std::to_string(segment) + ", page " +
                       std::to_string(page) +
                       ", where acknowledged chunks may lie; nothing was changed. If that stays "
                       "so, replace the disk, or start from a copy with zeros in the place of what "
                       "cannot be read: README.md tells how"};
}

// A place in the middle of what is vouched for is reported as damage, and the store is opened. At
// the end nobody knows what is there: it must be neither cut nor written over.
void Recovery::RefuseUnread() {
  for (const Gap& gap : gaps_) {
    if (!gap.unread) continue;
    const uint64_t next = gap.next_sequence == kNobody ? NextInStream(gap) : gap.next_sequence;
    if (next > last_good_) Refuse(gap.segment, gap.page);
  }
}

// A stream fills one segment after the other: what is hidden at the end of one came before this.
uint64_t Recovery::NextInStream(const Gap& gap) const {
  const Segment& segment = partition_.segments[gap.segment];
  uint8_t stream = segment.stream;
  bool known = segment.applied_pages > 0;  // by the checkpoint
  uint64_t next = kNobody;
  for (const ReplayBatch& batch : batches_) {
    if (batch.segment == gap.segment) {
      stream = batch.stream;
      known = true;
      next = kNobody;
    } else if (known && batch.stream == stream && next == kNobody) {
      next = batch.sequence;
    }
  }
  return next;
}

void Recovery::FindVouched() {
  // Batches that the checkpoint covers were found again when a segment was walked from its start.
  const auto old =
      std::remove_if(batches_.begin(), batches_.end(),
                     [this](const ReplayBatch& batch) { return batch.sequence <= replay_from_; });
  batches_.erase(old, batches_.end());
  last_good_ = std::max(replay_from_, vouched_);
}

// Behind the vouched batches only an unbroken run of complete ones counts.
Task<void> Recovery::CutTail() {
  size_t keep = 0;
  while (keep < batches_.size() && batches_[keep].sequence <= vouched_) ++keep;
  while (keep < batches_.size() && batches_[keep].sequence == last_good_ + 1) {
    const bool whole = co_await PayloadIsWhole(batches_[keep]);
    if (!whole) break;
    last_good_ = batches_[keep].sequence;
    ++keep;
  }
}

Task<bool> Recovery::PayloadIsWhole(ReplayBatch batch) {
  if (batch.record_count == 0) co_return true;
  const size_t bytes = size_t{batch.pages} * kPageBytes;
  AlignedBuffer buffer(bytes);
  const int64_t moved = co_await ReadPatiently(
      partition_.device, partition_.OffsetOf(batch.segment, batch.page), buffer.span());
  if (moved != static_cast<int64_t>(bytes)) {
    Refuse(batch.segment, batch.page);
    co_return false;
  }
  for (uint32_t i = 0; i < batch.record_count; ++i) {
    const RecordHeader& record = records_[batch.first_record + i];
    if (static_cast<RecordType>(record.type) != RecordType::kPut) continue;
    const auto payload = buffer.span().subspan(size_t{record.position} * kSlotBytes, record.length);
    if (Crc32c(payload) != record.crc) co_return false;
  }
  co_return true;
}

// What was cut must never come back: neither beside the batches that will take its place, nor when
// a later header vouches for the numbers it carried.
Task<bool> Recovery::EraseDiscarded() {
  AlignedBuffer zeros(kPageBytes);
  while (!batches_.empty() && batches_.back().sequence > last_good_) {
    const ReplayBatch batch = batches_.back();
    const int64_t moved = co_await DeviceIo(partition_.device, BlockRequest::Op::kWrite,
                                            partition_.OffsetOf(batch.segment, batch.page),
                                            zeros.data(), kPageBytes, true);
    if (moved != static_cast<int64_t>(kPageBytes)) {
      partition_.GoOffline("erasing a torn batch", moved);
      co_return false;
    }
    ++partition_.stats.recovery_discarded;
    batches_.pop_back();
  }
  if (partition_.stats.recovery_discarded > 0) {
    partition_.Log(LogLevel::kInfo, "cut " + std::to_string(partition_.stats.recovery_discarded) +
                                        " incomplete batches that were never acknowledged");
  }
  co_return true;
}

void Recovery::Replay() {
  // The sequence of the last put, of the ids for which a carried delete comes by.
  std::unordered_map<ChunkId, uint64_t, ChunkIdHash> last_put;
  for (const RecordHeader& record : records_) {
    if ((record.flags & kRecordCarried) != 0) last_put.try_emplace(record.id, 0);
  }
  for (const ReplayBatch& batch : batches_) {
    Segment& segment = partition_.segments[batch.segment];
    if (segment.first_sequence == 0) segment.first_sequence = batch.sequence;
    segment.stream = batch.stream;
    segment.sealed_sequence = batch.sequence;
    segment.applied_pages = segment.next_page = batch.page + batch.pages;
    segment.applied_crc = segment.last_crc = batch.crc;
    if (batch.seals) segment.state = SegmentState::kSealed;
    ++partition_.stats.recovery_batches;
    const uint64_t first_unit = partition_.OffsetOf(batch.segment, batch.page) / kSlotBytes;
    for (uint32_t i = 0; i < batch.record_count; ++i) {
      const RecordHeader& record = records_[batch.first_record + i];
      if (static_cast<RecordType>(record.type) == RecordType::kDelete) {
        bool applies = true;
        if ((record.flags & kRecordCarried) != 0) {
          const uint64_t put = last_put[record.id];
          // 0: what is there came with the checkpoint, which knew of deletes up to replay_from.
          applies = put == 0 ? record.origin_sequence > replay_from_ : put < record.origin_sequence;
        }
        if (applies) partition_.index.Erase(record.id);
        ++segment.tombstones;
        continue;
      }
      if ((record.flags & kRecordRepairs) != 0) ++segment.tombstones;
      const auto watched = last_put.find(record.id);
      if (watched != last_put.end()) watched->second = batch.sequence;
      IndexEntry entry;
      entry.id = record.id;
      entry.crc = record.crc;
      entry.length = record.length;
      entry.address = first_unit + record.position;
      entry.header_distance = record.position / (kPageBytes / kSlotBytes);
      const auto before = partition_.index.Put(entry);
      // A copy that a move left behind: its segment must be gone before any delete of the chunk may
      // be forgotten, so its collection is to be finished first.
      if ((record.flags & kRecordMoved) != 0 && before && before->address != entry.address) {
        Segment& left = partition_.segments[partition_.SegmentOf(*before)];
        if (left.state != SegmentState::kFree) left.flags |= kSegmentVictim;
      }
      if ((record.flags & kRecordMoved) != 0 &&
          record.source_segment < partition_.segments.size()) {
        Segment& source = partition_.segments[record.source_segment];
        if (source.generation == record.source_generation && source.state != SegmentState::kFree) {
          source.flags |= kSegmentVictim;
        }
      }
    }
  }
  // An entry may lead into a segment that is free only if the batch that moved or deleted it was
  // lost.
  std::vector<ChunkId> dangling;
  partition_.index.ForEach([&](const IndexEntry& entry) {
    const SegmentState state = partition_.segments[partition_.SegmentOf(entry)].state;
    if (state != SegmentState::kOpen && state != SegmentState::kSealed)
      dangling.push_back(entry.id);
  });
  for (const ChunkId& id : dangling) {
    partition_.index.Erase(id);
    partition_.Log(LogLevel::kError, "chunk " + id.ToHex() + " is lost: its segment was freed");
  }
}

void Recovery::ReportGaps() {
  const auto report = [this](uint32_t segment, uint32_t page) {
    ++partition_.stats.recovery_lost_batches;
    partition_.segments[segment].flags |= kSegmentDamaged;
    partition_.AddFinding(FindingKind::kLostBatch, segment, page);
    partition_.Log(LogLevel::kError, "acknowledged batches are unreadable at segment " +
                                         std::to_string(segment) + ", page " +
                                         std::to_string(page));
  };
  std::array<uint64_t, kStreams> latest = {};
  for (const Segment& segment : partition_.segments) {
    if (segment.state != SegmentState::kOpen && segment.state != SegmentState::kSealed) continue;
    latest[segment.stream] = std::max(latest[segment.stream], segment.first_sequence);
  }
  for (const Gap& gap : gaps_) {
    if (gap.next_sequence <= last_good_) report(gap.segment, gap.page);
  }
  for (const uint32_t index : to_walk_) {
    Segment& segment = partition_.segments[index];
    const StreamPosition& vouched = vouched_positions_[index];
    if (vouched.generation == segment.generation && vouched.pages > segment.applied_pages) {
      report(index, segment.applied_pages);
    } else if (segment.state == SegmentState::kOpen && segment.first_sequence != 0 &&
               segment.first_sequence < latest[segment.stream]) {
      report(index, segment.applied_pages);  // its stream went on elsewhere: the end is missing
    }
    // Nothing is appended near damage.
    if ((segment.flags & kSegmentDamaged) != 0) segment.state = SegmentState::kSealed;
  }
}

void Recovery::OpenStreams() {
  for (uint32_t i = 0; i < partition_.segments.size(); ++i) {
    Segment& segment = partition_.segments[i];
    if (segment.state != SegmentState::kOpen) continue;
    if (segment.first_sequence == 0) {
      // Only torn batches were in it.
      const uint32_t generation = segment.generation;
      segment = Segment{};
      segment.generation = generation;
      continue;
    }
    writer_.Resume(segment.stream, i);
  }
}

}  // namespace pando
