#include "store/chunk_reader.h"

#include <algorithm>
#include <cstring>

#include "pando/crc32c.h"

namespace pando {
namespace {

constexpr size_t kBufferBytes = kCrcBlockBytes + 2 * kPageBytes;
constexpr size_t kIdleBuffers = 64;

uint32_t BlockCount(uint32_t length) { return (length + kCrcBlockBytes - 1) / kCrcBlockBytes; }
uint32_t BlockLength(const IndexEntry& entry, uint32_t block) {
  return std::min(kCrcBlockBytes, entry.length - block * kCrcBlockBytes);
}

ReadResult Failed(int64_t result) {
  return {ErrorCode::kIoError, result < 0 ? static_cast<int32_t>(-result) : EIO, 0};
}

}  // namespace

AlignedBuffer ChunkReader::TakeBuffer() {
  if (buffers_.empty()) return AlignedBuffer(kBufferBytes);
  AlignedBuffer buffer = std::move(buffers_.back());
  buffers_.pop_back();
  return buffer;
}

void ChunkReader::ReturnBuffer(AlignedBuffer buffer) {
  if (buffers_.size() < kIdleBuffers) buffers_.push_back(std::move(buffer));
}

bool ChunkReader::ReadCached(const IndexEntry& entry, uint32_t offset, uint32_t length,
                             std::byte* out) {
  if (!partition_.cache.enabled() || length == 0) return false;
  const uint32_t first = offset / kCrcBlockBytes;
  const uint32_t last = (offset + length - 1) / kCrcBlockBytes;
  for (uint32_t block = first; block <= last; ++block) {
    const auto bytes = partition_.cache.Lookup(entry.id, block, entry.crc);
    if (bytes.size() != BlockLength(entry, block)) {
      ++partition_.stats.cache_misses;
      return false;
    }
    const uint32_t start = block * kCrcBlockBytes;
    const uint32_t from = std::max(offset, start);
    const uint32_t to = std::min<uint32_t>(offset + length, start + kCrcBlockBytes);
    std::memcpy(out + (from - offset), bytes.data() + (from - start), to - from);
  }
  ++partition_.stats.cache_hits;
  return true;
}

void ChunkReader::Cache(const IndexEntry& entry, uint32_t offset,
                        std::span<const std::byte> bytes) {
  if (!partition_.cache.enabled()) return;
  const bool bulk = entry.length > kCrcBlockBytes;
  while (!bytes.empty()) {
    const uint32_t block = offset / kCrcBlockBytes;
    const uint32_t length = BlockLength(entry, block);
    if (bytes.size() < length) return;
    partition_.cache.Insert(entry.id, block, entry.crc, bulk, bytes.first(length));
    bytes = bytes.subspan(length);
    offset += length;
  }
}

Task<ReadResult> ChunkReader::Read(IndexEntry entry, uint32_t offset, uint32_t length,
                                   std::byte* out) {
  const uint32_t segment = partition_.SegmentOf(entry);
  ++partition_.segments[segment].pins;  // the collector must not reuse what is being read
  const bool page_aligned = entry.address * kSlotBytes % kPageBytes == 0;
  const bool whole_blocks =
      offset % kCrcBlockBytes == 0 &&
      ((offset + length) % kCrcBlockBytes == 0 || offset + length == entry.length);
  ReadResult result;
  if (page_aligned && whole_blocks) {
    result = co_await ReadDirect(entry, offset, length, out);
  } else {
    result = co_await ReadBlocks(entry, offset, length, out);
  }
  partition_.Unpin(segment);
  if (result.code == ErrorCode::kCorruptChunk) {
    ++partition_.stats.corrupt_reads;
    partition_.MarkDamaged(entry);
    partition_.Log(LogLevel::kError, "chunk " + entry.id.ToHex() +
                                         " is corrupt on the device (segment " +
                                         std::to_string(segment) + ", page " +
                                         std::to_string(partition_.PageOf(entry)) + ")");
  }
  co_return result;
}

Task<ReadResult> ChunkReader::ReadDirect(const IndexEntry& entry, uint32_t offset, uint32_t length,
                                         std::byte* out) {
  const bool whole = offset == 0 && length == entry.length;
  std::vector<uint32_t> crcs;
  if (!whole) {
    const bool loaded = co_await LoadBlockCrcs(entry, crcs);
    if (!loaded) co_return co_await ReadAround(entry, offset, length, out);
  }
  const uint64_t bytes = RoundUp(length, kPageBytes);
  const int64_t moved = co_await DeviceIo(partition_.device, BlockRequest::Op::kRead,
                                          ByteOffset(entry) + offset, out, bytes);
  if (moved != static_cast<int64_t>(bytes)) co_return Failed(moved);
  partition_.stats.bytes_read += bytes;
  const std::span<const std::byte> data(out, length);
  if (whole) {
    if (Crc32c(data) != entry.crc) co_return ReadResult{ErrorCode::kCorruptChunk, 0, 0};
  } else {
    for (uint32_t at = 0; at < length;) {
      const uint32_t block = (offset + at) / kCrcBlockBytes;
      const uint32_t step = BlockLength(entry, block);
      if (Crc32c(data.subspan(at, step)) != crcs[block]) {
        co_return ReadResult{ErrorCode::kCorruptChunk, 0, 0};
      }
      at += step;
    }
  }
  Cache(entry, offset, data);
  co_return ReadResult{ErrorCode::kOk, 0, length};
}

// Through a buffer, block by block: packed payloads and ranges that begin or end inside a block.
Task<ReadResult> ChunkReader::ReadBlocks(const IndexEntry& entry, uint32_t offset, uint32_t length,
                                         std::byte* out) {
  std::vector<uint32_t> crcs;
  if (entry.length > kCrcBlockBytes) {
    const bool loaded = co_await LoadBlockCrcs(entry, crcs);
    if (!loaded) co_return co_await ReadAround(entry, offset, length, out);
  } else {
    crcs.push_back(entry.crc);
  }
  AlignedBuffer buffer = TakeBuffer();
  ReadResult result{ErrorCode::kOk, 0, length};
  const uint32_t last = (offset + length - 1) / kCrcBlockBytes;
  for (uint32_t block = offset / kCrcBlockBytes; block <= last; ++block) {
    const uint32_t start = block * kCrcBlockBytes;
    const uint32_t size = BlockLength(entry, block);
    const uint64_t first = ByteOffset(entry) + start;
    const uint64_t first_page = first / kPageBytes * kPageBytes;
    const uint64_t bytes = RoundUp(first + size, kPageBytes) - first_page;
    PANDO_ASSERT(bytes <= buffer.size());
    const int64_t moved = co_await DeviceIo(partition_.device, BlockRequest::Op::kRead, first_page,
                                            buffer.data(), bytes);
    if (moved != static_cast<int64_t>(bytes)) {
      result = Failed(moved);
      break;
    }
    partition_.stats.bytes_read += bytes;
    const std::span<const std::byte> data(buffer.data() + (first - first_page), size);
    if (Crc32c(data) != crcs[block]) {
      result = {ErrorCode::kCorruptChunk, 0, 0};
      break;
    }
    Cache(entry, start, data);
    const uint32_t from = std::max(offset, start);
    const uint32_t to = std::min(offset + length, start + size);
    std::memcpy(out + (from - offset), data.data() + (from - start), to - from);
  }
  ReturnBuffer(std::move(buffer));
  co_return result;
}

// The batch header with the list of block checksums is unreadable: read everything and use the
// checksum that the index holds.
Task<ReadResult> ChunkReader::ReadAround(const IndexEntry& entry, uint32_t offset, uint32_t length,
                                         std::byte* out) {
  AlignedBuffer buffer(RoundUp(entry.length, kPageBytes) + kPageBytes);
  uint32_t actual = 0;
  ReadResult result = co_await ReadWhole(entry, buffer.data(), &actual);
  if (result.code == ErrorCode::kOk) {
    std::memcpy(out, buffer.data() + offset, length);
    result.length = length;
  }
  co_return result;
}

Task<bool> ChunkReader::LoadBlockCrcs(const IndexEntry& entry, std::vector<uint32_t>& crcs) {
  const uint32_t segment = partition_.SegmentOf(entry);
  const uint32_t payload_page = partition_.PageOf(entry);
  if (payload_page < entry.header_distance) co_return false;
  const uint32_t page = payload_page - entry.header_distance;
  AlignedBuffer buffer = TakeBuffer();
  const int64_t moved =
      co_await DeviceIo(partition_.device, BlockRequest::Op::kRead,
                        partition_.OffsetOf(segment, page), buffer.data(), kPageBytes);
  bool found = false;
  if (moved == static_cast<int64_t>(kPageBytes)) {
    const std::span<const std::byte> bytes = buffer.span().first(kPageBytes);
    const auto header = DecodeBatchHeader(bytes, partition_.ContextOf(segment, page));
    std::vector<RecordView> records;
    if (header.ok() && DecodeRecords(bytes, header.value(), records).ok()) {
      for (const RecordView& record : records) {
        if (record.header.id != entry.id || record.header.crc != entry.crc ||
            record.header.length != entry.length || record.crc_list.empty()) {
          continue;
        }
        uint32_t combined = 0;
        for (uint32_t block = 0; block < BlockCount(entry.length); ++block) {
          crcs.push_back(record.BlockCrc(block));
          combined = Crc32cCombine(combined, crcs.back(), BlockLength(entry, block));
        }
        // The list must be the list of this very chunk, by the index's own word.
        found = combined == entry.crc;
        break;
      }
    }
  }
  ReturnBuffer(std::move(buffer));
  co_return found;
}

Task<ReadResult> ChunkReader::ReadWhole(IndexEntry entry, std::byte* out, uint32_t* actual_crc) {
  const uint64_t first = ByteOffset(entry);
  const uint64_t first_page = first / kPageBytes * kPageBytes;
  const uint64_t bytes = RoundUp(first + entry.length, kPageBytes) - first_page;
  const int64_t moved =
      co_await DeviceIo(partition_.device, BlockRequest::Op::kRead, first_page, out, bytes);
  if (moved != static_cast<int64_t>(bytes)) co_return Failed(moved);
  partition_.stats.bytes_read += bytes;
  if (first != first_page) std::memmove(out, out + (first - first_page), entry.length);
  *actual_crc = Crc32c(std::span<const std::byte>(out, entry.length));
  if (*actual_crc != entry.crc) co_return ReadResult{ErrorCode::kCorruptChunk, 0, 0};
  co_return ReadResult{ErrorCode::kOk, 0, entry.length};
}

}  // namespace pando
