#include "store/log_walker.h"

#include <algorithm>
#include <cstring>

namespace pando {
namespace {

bool MayBeHeader(std::span<const std::byte> page) {
  uint32_t magic = 0;
  if (page.size() != kPageBytes) return false;
  std::memcpy(&magic, page.data(), 4);
  return magic == kBatchMagic;
}

}  // namespace

Task<int64_t> ReadPatiently(BlockDevice& device, uint64_t offset, std::span<std::byte> out) {
  constexpr int kTries = 3;
  int64_t moved = 0;
  for (int tried = 0; tried < kTries && moved != static_cast<int64_t>(out.size()); ++tried) {
    moved = co_await DeviceIo(device, BlockRequest::Op::kRead, offset, out.data(), out.size());
  }
  co_return moved;
}

Task<std::span<const std::byte>> SegmentWindow::Page(uint32_t page) {
  if (page < first_ || page >= first_ + count_) {
    first_ = page;
    count_ = std::min(kPages, partition_.superblock.segment_pages - page);
    int64_t moved = co_await DeviceIo(partition_.device, BlockRequest::Op::kRead,
                                      partition_.OffsetOf(segment_, page), buffer_.data(),
                                      size_t{count_} * kPageBytes);
    if (moved != static_cast<int64_t>(size_t{count_} * kPageBytes)) {
      // One bad page must not hide its neighbours.
      count_ = 1;
      moved = co_await ReadPatiently(partition_.device, partition_.OffsetOf(segment_, page),
                                     buffer_.span().first(kPageBytes));
      if (moved != static_cast<int64_t>(kPageBytes)) {
        count_ = 0;
        co_return std::span<const std::byte>();
      }
    }
  }
  co_return std::span<const std::byte>(
      buffer_.span().subspan(size_t{page - first_} * kPageBytes, kPageBytes));
}

std::optional<BatchHeader> LogWalker::Check(std::span<const std::byte> bytes, uint32_t page) const {
  if (!MayBeHeader(bytes)) return std::nullopt;
  const auto header = DecodeBatchHeader(bytes, partition_.ContextOf(segment_, page));
  if (!header.ok() || header.value().kind != static_cast<uint16_t>(BatchKind::kData) ||
      header.value().generation != generation_ ||
      page + 1 + header.value().payload_pages > partition_.marker_page()) {
    return std::nullopt;
  }
  return header.value();
}

Task<bool> LogWalker::Next() {
  if (ended_ || page_ >= partition_.marker_page()) co_return false;
  batch_.after_gap = false;
  std::span<const std::byte> bytes = window_.Held(page_);
  if (bytes.empty()) bytes = co_await window_.Page(page_);
  const bool unread = bytes.empty();
  auto header = Check(bytes, page_);
  if (!header || (in_chain_ && header->previous_crc != last_crc_)) {
    // Not the next batch. The log of this segment ends here, unless one of its batches follows.
    uint32_t found = page_;
    if (!header) found = co_await FindNext(page_ + 1);
    if (found == kNoPage) {
      ended_ = true;
      end_unread_ = unread;
      co_return false;
    }
    batch_.after_gap = true;
    batch_.gap_page = page_;
    batch_.gap_unread = unread;
    bytes = co_await window_.Page(found);
    header = Check(bytes, found);
    if (!header) {  // it was readable a moment ago
      ended_ = true;
      end_unread_ = true;
      co_return false;
    }
    page_ = found;
  }
  batch_.header = *header;
  batch_.page = bytes;
  page_ += 1 + header->payload_pages;
  last_crc_ = header->crc;
  in_chain_ = true;
  ended_ = (header->flags & kBatchSeals) != 0;
  co_return true;
}

Task<uint32_t> LogWalker::FindNext(uint32_t page) {
  for (; page < partition_.marker_page(); ++page) {
    std::span<const std::byte> bytes = window_.Held(page);
    if (bytes.empty()) bytes = co_await window_.Page(page);
    if (Check(bytes, page)) co_return page;
  }
  co_return kNoPage;
}

Task<uint32_t> FindGeneration(Partition& partition, uint32_t segment, uint32_t above,
                              uint32_t pages) {
  SegmentWindow window(partition, segment);
  uint32_t highest = 0;
  for (uint32_t page = 0; page < pages; ++page) {
    std::span<const std::byte> bytes = window.Held(page);
    if (bytes.empty()) bytes = co_await window.Page(page);
    if (!MayBeHeader(bytes)) continue;
    const auto header = DecodeBatchHeader(bytes, partition.ContextOf(segment, page));
    if (header.ok() && header.value().kind == static_cast<uint16_t>(BatchKind::kData) &&
        header.value().generation > above) {
      highest = std::max(highest, header.value().generation);
    }
  }
  co_return highest;
}

}  // namespace pando
