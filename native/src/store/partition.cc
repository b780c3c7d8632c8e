#include "store/partition.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace pando {

Partition::Partition(BlockDevice& block_device, StoreOptions store_options)
    : device(block_device),
      options(std::move(store_options)),
      cache(options.cache_bytes),
      scheduler([this] { return Now(); }) {}

uint32_t Partition::max_chunk_bytes() const {
  return static_cast<uint32_t>(
      std::min<uint64_t>(kMaxChunkBytes, uint64_t{log_pages() - 1} * kPageBytes));
}

void Partition::InsertChunk(const IndexEntry& entry) {
  Segment& segment = segments[SegmentOf(entry)];
  segment.live_bytes += ChargeOf(entry.length);
  ++segment.live_chunks;
  stats.live_bytes += ChargeOf(entry.length);
  stats.chunk_bytes += entry.length;
  stats.damaged_chunks += entry.damaged ? 1 : 0;
  if (const auto old = index.Put(entry)) {
    Segment& before = segments[SegmentOf(*old)];
    before.live_bytes -= ChargeOf(old->length);
    --before.live_chunks;
    before.flags &= static_cast<uint8_t>(~kSegmentBlocked);
    stats.live_bytes -= ChargeOf(old->length);
    stats.chunk_bytes -= old->length;
    stats.damaged_chunks -= old->damaged ? 1 : 0;
  }
}

bool Partition::RemoveChunk(const ChunkId& id) {
  const auto old = index.Erase(id);
  if (!old) return false;
  Segment& segment = segments[SegmentOf(*old)];
  PANDO_ASSERT(segment.live_chunks > 0 && segment.live_bytes >= ChargeOf(old->length));
  segment.live_bytes -= ChargeOf(old->length);
  --segment.live_chunks;
  segment.flags &= static_cast<uint8_t>(~kSegmentBlocked);
  stats.live_bytes -= ChargeOf(old->length);
  stats.chunk_bytes -= old->length;
  stats.damaged_chunks -= old->damaged ? 1 : 0;
  return true;
}

void Partition::MarkDamaged(const IndexEntry& entry) {
  const auto now = index.Find(entry.id);
  if (!now || now->address != entry.address || now->damaged) return;
  IndexEntry damaged = *now;
  damaged.damaged = true;
  index.Put(damaged);
  ++stats.damaged_chunks;
}

bool Partition::RecountLive() {
  std::vector<std::pair<uint64_t, uint32_t>> before;
  before.reserve(segments.size());
  for (Segment& segment : segments) {
    before.emplace_back(segment.live_bytes, segment.live_chunks);
    segment.live_bytes = 0;
    segment.live_chunks = 0;
  }
  uint64_t live = 0;
  uint64_t bytes = 0;
  uint64_t damaged = 0;
  index.ForEach([&](const IndexEntry& entry) {
    Segment& segment = segments[SegmentOf(entry)];
    segment.live_bytes += ChargeOf(entry.length);
    ++segment.live_chunks;
    live += ChargeOf(entry.length);
    bytes += entry.length;
    damaged += entry.damaged ? 1 : 0;
  });
  bool same =
      live == stats.live_bytes && bytes == stats.chunk_bytes && damaged == stats.damaged_chunks;
  for (size_t i = 0; i < segments.size(); ++i) {
    same = same && before[i] == std::pair(segments[i].live_bytes, segments[i].live_chunks);
  }
  stats.live_bytes = live;
  stats.chunk_bytes = bytes;
  stats.damaged_chunks = damaged;
  return same;
}

void Partition::SetFree(uint32_t segment) {
  Segment& freed = segments[segment];
  PANDO_ASSERT(freed.state != SegmentState::kFree && freed.live_chunks == 0 && freed.pins == 0);
  const uint32_t generation = freed.generation;
  freed = Segment{};
  freed.generation = generation;
  ++free_count_;
}

void Partition::AddSegment() {
  segments.emplace_back();
  ++free_count_;
}

void Partition::RecountFree() {
  free_count_ = 0;
  for (const Segment& segment : segments)
    free_count_ += segment.state == SegmentState::kFree ? 1 : 0;
}

uint32_t Partition::ungrown_segments() const {
  if (full || segments.size() >= options.capacity_segments) return 0;
  return options.capacity_segments - static_cast<uint32_t>(segments.size());
}

uint64_t Partition::capacity_bytes() const {
  return (segments.size() + uint64_t{ungrown_segments()}) * segment_bytes();
}

uint64_t Partition::limit_bytes() const {
  // 92 %, and always room for the reserves, one open segment a stream and a checkpoint being
  // replaced.
  constexpr uint64_t kHeldBack = kPutReserve + kStreams;
  const uint64_t capacity = capacity_bytes();
  const uint64_t held = kHeldBack * segment_bytes();
  return std::min(capacity / 100 * 92, capacity > held ? capacity - held : 0);
}

std::optional<uint32_t> Partition::TakeFreeSegment(uint32_t reserve) {
  if (free_count_ == 0 || free_count_ + ungrown_segments() <= reserve) return std::nullopt;
  for (uint32_t i = 0; i < segments.size(); ++i) {
    Segment& segment = segments[i];
    if (segment.state != SegmentState::kFree) continue;
    PANDO_ASSERT(segment.live_chunks == 0 && segment.pins == 0);
    const uint32_t generation = segment.generation + 1;
    segment = Segment{};
    segment.generation = generation;
    segment.state = SegmentState::kOpen;
    --free_count_;
    return i;
  }
  return std::nullopt;
}

void Partition::GoOffline(const char* what, int64_t result) {
  if (offline) return;
  offline = true;
  offline_errno = result < 0 ? static_cast<int32_t>(-result) : EIO;
  stats.offline = 1;
  Log(LogLevel::kError, std::string("device offline: ") + what +
                            " failed: " + std::strerror(offline_errno) +
                            (result >= 0 ? " (short transfer)" : "") + "; reads are still served");
}

void Partition::Log(LogLevel level, const std::string& text) const {
  if (options.log) options.log(level, "store " + std::to_string(options.partition) + ": " + text);
}

void Partition::Unpin(uint32_t segment) {
  PANDO_ASSERT(segments[segment].pins > 0);
  if (--segments[segment].pins == 0) unpinned.WakeAll();
}

void Partition::AddFinding(FindingKind kind, uint32_t segment, uint32_t page) {
  constexpr size_t kMost = 1024;
  if (start_findings.size() >= kMost) return;
  ScrubFinding finding = {};
  finding.kind = static_cast<uint32_t>(kind);
  finding.partition = options.partition;
  finding.segment = segment;
  finding.page = page;
  start_findings.push_back(finding);
}

void Partition::DropFindings(uint32_t segment) {
  std::erase_if(start_findings,
                [segment](const ScrubFinding& finding) { return finding.segment == segment; });
}

}  // namespace pando
