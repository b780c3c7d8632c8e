#include "store/checkpointer.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <type_traits>

#include "pando/crc32c.h"

namespace pando {
namespace {

constexpr uint32_t kBufferPages = 64;
constexpr uint32_t kCheckpointReserve = 1;  // the collector must be able to move on

}  // namespace

Task<bool> WriteSuperblock(Partition& partition, Superblock next) {
  next.sequence = partition.superblock.sequence + 1;
  SealSuperblock(next);
  AlignedBuffer page(kPageBytes);
  std::memcpy(page.data(), &next, sizeof next);
  for (uint32_t i = 0; i < 2; ++i) {
    const uint64_t copy = (next.sequence % 2) * 2 + i;
    const int64_t moved =
        co_await DeviceIo(partition.device, BlockRequest::Op::kWrite, copy * kSuperblockSpacing,
                          page.data(), kPageBytes, true);
    if (moved != static_cast<int64_t>(kPageBytes)) {
      partition.GoOffline("a superblock write", moved);
      co_return false;
    }
  }
  partition.superblock = next;
  co_return true;
}

// The bytes of a checkpoint, cut into segments as they come.
class Checkpointer::Stream {
 public:
  Stream(Partition& partition, uint64_t id)
      : partition_(partition), id_(id), buffer_(size_t{kBufferPages} * kPageBytes) {}

  /// False: Flush before the next Append.
  [[nodiscard]] bool HasRoom() const { return fill_ < buffer_.size(); }
  template <typename T>
  void Append(const T& record) {
    static_assert(std::is_trivially_copyable_v<T> && kPageBytes % sizeof(T) == 0);
    std::memcpy(buffer_.data() + fill_, &record, sizeof record);
    fill_ += sizeof record;
    bytes_ += sizeof record;
  }

  Task<bool> Flush() {
    crc_ = Crc32c(buffer_.span().first(fill_), crc_);
    std::memset(buffer_.data() + fill_, 0, buffer_.size() - fill_);
    const auto pages = static_cast<uint32_t>(RoundUp(fill_, kPageBytes) / kPageBytes);
    for (uint32_t done = 0; done < pages;) {
      if (segments_.empty() || next_page_ >= partition_.marker_page()) {
        const bool opened = co_await NextSegment();
        if (!opened) co_return false;
      }
      const uint32_t step = std::min(pages - done, partition_.marker_page() - next_page_);
      const int64_t moved =
          co_await DeviceIo(partition_.device, BlockRequest::Op::kWrite,
                            partition_.OffsetOf(segments_.back(), next_page_),
                            buffer_.data() + size_t{done} * kPageBytes, size_t{step} * kPageBytes);
      if (moved != static_cast<int64_t>(size_t{step} * kPageBytes)) {
        partition_.GoOffline("a checkpoint write", moved);
        co_return false;
      }
      done += step;
      next_page_ += step;
    }
    fill_ = 0;
    co_return true;
  }

  [[nodiscard]] const std::vector<uint32_t>& segments() const { return segments_; }
  [[nodiscard]] uint64_t bytes() const { return bytes_; }
  [[nodiscard]] uint32_t crc() const { return crc_; }

 private:
  Task<bool> NextSegment() {
    if (segments_.size() >= kMaxCheckpointSegments) co_return false;
    const auto taken = partition_.TakeFreeSegment(kCheckpointReserve);
    if (!taken) co_return false;
    Segment& segment = partition_.segments[*taken];
    segment.state = SegmentState::kCheckpoint;
    BatchHeader header;
    header.kind = static_cast<uint16_t>(BatchKind::kCheckpoint);
    header.uuid = partition_.superblock.uuid;
    header.segment = *taken;
    header.generation = segment.generation;
    header.durable_sequence = partition_.applied_sequence;
    header.checkpoint_id = id_;
    header.checkpoint_index = static_cast<uint32_t>(segments_.size());
    segments_.push_back(*taken);
    AlignedBuffer page(kPageBytes);
    std::memcpy(page.data(), &header, sizeof header);
    SealHeaderPage(page.span());
    const int64_t moved =
        co_await DeviceIo(partition_.device, BlockRequest::Op::kWrite,
                          partition_.OffsetOf(*taken, 0), page.data(), kPageBytes);
    if (moved != static_cast<int64_t>(kPageBytes)) {
      partition_.GoOffline("a checkpoint write", moved);
      co_return false;
    }
    next_page_ = 1;
    co_return true;
  }

  Partition& partition_;
  uint64_t id_;
  AlignedBuffer buffer_;
  size_t fill_ = 0;
  uint64_t bytes_ = 0;
  uint32_t crc_ = 0;
  uint32_t next_page_ = 0;
  std::vector<uint32_t> segments_;
};

void Checkpointer::Pump() {
  if (running_ || partition_.offline || partition_.closing) return;
  if (partition_.log_bytes_since_checkpoint < partition_.options.checkpoint_log_bytes) return;
  running_ = true;
  Spawn(partition_.tasks, RunInBackground());
}

Task<void> Checkpointer::RunInBackground() {
  const bool written = co_await Write();
  running_ = false;
  if (!written && !partition_.offline) {
    // Try again after some more log; until then a start takes longer, nothing else.
    partition_.Log(LogLevel::kWarn, "no free segment for a checkpoint");
    partition_.log_bytes_since_checkpoint = partition_.options.checkpoint_log_bytes / 2;
    partition_.collect_now = true;
  }
}

Task<bool> Checkpointer::Write() {
  // From here to the first wait nothing changes: the table and replay_from belong together.
  Superblock next = partition_.superblock;
  next.checkpoint_id = partition_.superblock.checkpoint_id + 1;
  next.replay_from = partition_.applied_sequence;
  partition_.log_bytes_since_checkpoint = 0;
  std::vector<SegmentRecord> table;
  table.reserve(partition_.segments.size());
  for (const Segment& segment : partition_.segments) {
    SegmentRecord record;
    record.generation = segment.generation;
    record.state = static_cast<uint8_t>(segment.state);
    record.stream = segment.stream;
    record.flags = segment.flags;
    record.applied_pages = segment.applied_pages;
    record.last_crc = segment.applied_crc;
    record.first_sequence = segment.first_sequence;
    record.tombstones = segment.tombstones;
    table.push_back(record);
  }
  next.segment_count = static_cast<uint32_t>(table.size());

  Stream stream(partition_, next.checkpoint_id);
  bool good = true;
  for (const SegmentRecord& record : table) {
    if (!stream.HasRoom()) good = co_await stream.Flush();
    if (!good) break;
    stream.Append(record);
  }
  uint64_t chunks = 0;
  std::vector<IndexEntry> entries;
  std::optional<ChunkId> cursor = ChunkId{};
  while (good && cursor) {
    cursor = partition_.index.ReadRange(*cursor, entries);
    for (const IndexEntry& entry : entries) {
      if (!stream.HasRoom()) good = co_await stream.Flush();
      if (!good) break;
      stream.Append(PackEntry(entry));
      ++chunks;
    }
  }
  if (good) good = co_await stream.Flush();
  if (good) {
    const int64_t flushed =
        co_await DeviceIo(partition_.device, BlockRequest::Op::kFlush, 0, nullptr, 0);
    if (flushed < 0) partition_.GoOffline("a flush", flushed);
    good = flushed >= 0;
  }
  const Superblock before = partition_.superblock;
  if (good) {
    next.checkpoint_bytes = stream.bytes();
    next.checkpoint_crc = stream.crc();
    next.chunk_count = chunks;
    next.checkpoint_segment_count = static_cast<uint32_t>(stream.segments().size());
    next.checkpoint_segments = {};
    std::copy(stream.segments().begin(), stream.segments().end(), next.checkpoint_segments.begin());
    good = co_await WriteSuperblock(partition_, next);
  }
  if (!good) {
    if (!partition_.offline) {
      for (const uint32_t segment : stream.segments()) partition_.SetFree(segment);
    }
    co_return false;
  }
  for (uint32_t i = 0; i < before.checkpoint_segment_count; ++i) {
    partition_.SetFree(before.checkpoint_segments[i]);
  }
  ++partition_.stats.checkpoints;
  co_return true;
}

namespace {

Task<bool> ReadStream(Partition& partition) {
  const Superblock& superblock = partition.superblock;
  const uint64_t expected =
      (superblock.segment_count + superblock.chunk_count) * uint64_t{sizeof(ChunkRecord)};
  if (superblock.checkpoint_bytes != expected ||
      superblock.segment_count > partition.segments.size()) {
    co_return false;
  }
  AlignedBuffer buffer(size_t{kBufferPages} * kPageBytes);
  uint32_t crc = 0;
  uint64_t record_index = 0;
  uint64_t left = superblock.checkpoint_bytes;
  for (uint32_t i = 0; i < superblock.checkpoint_segment_count; ++i) {
    const uint32_t segment = superblock.checkpoint_segments[i];
    if (segment >= partition.segments.size()) co_return false;
    int64_t moved = co_await DeviceIo(partition.device, BlockRequest::Op::kRead,
                                      partition.OffsetOf(segment, 0), buffer.data(), kPageBytes);
    if (moved != static_cast<int64_t>(kPageBytes)) co_return false;
    const auto header =
        DecodeBatchHeader(buffer.span().first(kPageBytes), partition.ContextOf(segment, 0));
    if (!header.ok() || header.value().kind != static_cast<uint16_t>(BatchKind::kCheckpoint) ||
        header.value().checkpoint_id != superblock.checkpoint_id ||
        header.value().checkpoint_index != i) {
      co_return false;
    }
    for (uint32_t page = 1; page < partition.marker_page() && left > 0;) {
      const uint32_t step = std::min(kBufferPages, partition.marker_page() - page);
      moved = co_await DeviceIo(partition.device, BlockRequest::Op::kRead,
                                partition.OffsetOf(segment, page), buffer.data(),
                                size_t{step} * kPageBytes);
      if (moved != static_cast<int64_t>(size_t{step} * kPageBytes)) co_return false;
      const size_t used = std::min<uint64_t>(left, size_t{step} * kPageBytes);
      crc = Crc32c(buffer.span().first(used), crc);
      for (size_t at = 0; at < used; at += sizeof(ChunkRecord), ++record_index) {
        if (record_index < superblock.segment_count) {
          SegmentRecord record;
          std::memcpy(&record, buffer.data() + at, sizeof record);
          Segment& target = partition.segments[record_index];
          if (record.state > static_cast<uint8_t>(SegmentState::kCheckpoint) ||
              record.stream >= kStreams || record.applied_pages > partition.marker_page()) {
            co_return false;
          }
          target.generation = record.generation;
          target.state = static_cast<SegmentState>(record.state);
          target.stream = record.stream;
          target.flags = record.flags;
          target.applied_pages = target.next_page = record.applied_pages;
          target.applied_crc = target.last_crc = record.last_crc;
          target.first_sequence = record.first_sequence;
          target.sealed_sequence = record.first_sequence;
          target.tombstones = record.tombstones;
        } else {
          ChunkRecord record;
          std::memcpy(&record, buffer.data() + at, sizeof record);
          const IndexEntry entry = UnpackEntry(record);
          const uint64_t end = entry.address * kSlotBytes + entry.length;
          if (entry.length == 0 || entry.length > kMaxChunkBytes ||
              entry.address * kSlotBytes < kDataOffset ||
              end > partition.OffsetOf(static_cast<uint32_t>(partition.segments.size()), 0)) {
            co_return false;
          }
          partition.index.Put(entry);
        }
      }
      left -= used;
      page += step;
    }
  }
  co_return left == 0 && crc == superblock.checkpoint_crc;
}

}  // namespace

Task<bool> LoadCheckpoint(Partition& partition) {
  const bool good = co_await ReadStream(partition);
  if (!good) {
    partition.index = Index();
    for (Segment& segment : partition.segments) segment = Segment{};
  }
  co_return good;
}

}  // namespace pando
