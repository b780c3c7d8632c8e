#include "store/scrubber.h"

#include <algorithm>

#include "qos/device_turn.h"

namespace pando {

Task<void> Scrubber::CheckChunk(IndexEntry entry, Step& step) {
  const uint32_t segment = partition_.SegmentOf(entry);
  ++partition_.segments[segment].pins;
  AlignedBuffer buffer(RoundUp(entry.length, kPageBytes) + kPageBytes);
  uint32_t actual = 0;
  DeviceTurn turn(partition_.scheduler, kBackgroundClass, CostUnits(entry.length));
  co_await turn;
  const ReadResult read = co_await reader_.ReadWhole(entry, buffer.data(), &actual);
  turn.Leave();
  partition_.Unpin(segment);
  if (read.code == ErrorCode::kOk) {
    if (!entry.damaged) co_return;
    // Readable after all (a transient fault on the way): trust it again.
    const auto now = partition_.index.Find(entry.id);
    if (now && now->address == entry.address) {
      IndexEntry healed = *now;
      healed.damaged = false;
      partition_.InsertChunk(healed);
    }
    co_return;
  }
  const auto now = partition_.index.Find(entry.id);
  if (!now || now->address != entry.address) co_return;  // moved or deleted meanwhile
  ScrubFinding finding = {};
  finding.id = entry.id;
  finding.kind = static_cast<uint32_t>(
      read.code == ErrorCode::kCorruptChunk ? FindingKind::kPayload : FindingKind::kUnreadable);
  finding.partition = partition_.options.partition;
  finding.segment = segment;
  finding.page = partition_.PageOf(entry);
  finding.length = entry.length;
  finding.expected_crc32c = entry.crc;
  finding.actual_crc32c = actual;
  finding.os_error = read.os_error;
  step.findings.push_back(finding);
  ++partition_.stats.scrub_findings;
  partition_.MarkDamaged(entry);
}

// A rotted header costs a replay its chunks, although the index still serves them; they are found
// by where they lie.
Task<void> Scrubber::CheckBehindHeader(uint32_t segment, uint32_t page, uint32_t end_page,
                                       Step& step) {
  ScrubFinding finding = {};
  finding.kind = static_cast<uint32_t>(FindingKind::kHeader);
  finding.partition = partition_.options.partition;
  finding.segment = segment;
  finding.page = page;
  step.findings.push_back(finding);
  ++partition_.stats.scrub_findings;
  std::vector<IndexEntry> entries;
  partition_.index.ForEach([&](const IndexEntry& entry) {
    if (partition_.SegmentOf(entry) != segment) return;
    const uint32_t at = partition_.PageOf(entry);
    if (at >= page && at < end_page) entries.push_back(entry);
  });
  for (const IndexEntry& entry : entries) co_await CheckChunk(entry, step);
}

// A position is 1 + segment * 2^32 + page of the next batch header, so a step can stop between any
// two.
Task<Scrubber::Step> Scrubber::Run(uint64_t position, uint64_t budget_bytes, size_t limit) {
  Step step;
  uint64_t segment = 0;
  uint32_t page = 0;
  if (position == 0) {
    for (const ScrubFinding& finding : partition_.start_findings) {
      if (step.findings.size() >= limit) break;
      step.findings.push_back(finding);
    }
  } else {
    segment = (position - 1) >> 32U;
    page = static_cast<uint32_t>(position - 1);
  }
  const uint64_t read_before = partition_.stats.bytes_read;
  std::vector<RecordView> views;
  for (; segment < partition_.segments.size(); ++segment, page = 0) {
    const auto index = static_cast<uint32_t>(segment);
    const SegmentState state = partition_.segments[index].state;
    if (state != SegmentState::kOpen && state != SegmentState::kSealed) continue;
    ++partition_.segments[index].pins;  // neither freed nor reused while we look at it
    const uint32_t applied = partition_.segments[index].applied_pages;
    LogWalker walker(partition_, index, partition_.segments[index].generation, page,
                     LogWalker::kUnknownCrc);
    bool more = page < applied;
    while (more) {
      if (step.findings.size() >= limit ||
          partition_.stats.bytes_read - read_before >= budget_bytes) {
        step.next_position = 1 + (segment << 32U | page);
        break;
      }
      more = co_await walker.Next();
      const uint32_t gap_end = more ? walker.batch().header.page : applied;
      const bool gap = more ? walker.batch().after_gap && walker.batch().gap_page < applied
                            : walker.end_page() < applied;
      if (gap) {
        co_await CheckBehindHeader(index, more ? walker.batch().gap_page : walker.end_page(),
                                   gap_end, step);
      }
      if (!more) break;
      const BatchHeader header = walker.batch().header;
      partition_.stats.bytes_read += kPageBytes;
      std::vector<IndexEntry> live;
      if (DecodeRecords(walker.batch().page, header, views).ok()) {
        const uint64_t base = partition_.OffsetOf(index, header.page) / kSlotBytes;
        for (const RecordView& view : views) {
          const auto entry = partition_.index.Find(view.header.id);
          if (entry && entry->address == base + view.header.position) live.push_back(*entry);
        }
      }
      for (const IndexEntry& entry : live) co_await CheckChunk(entry, step);
      page = walker.end_page();
      more = page < applied;
    }
    partition_.Unpin(index);
    if (step.next_position != 0) co_return step;
  }
  co_return step;
}

}  // namespace pando
