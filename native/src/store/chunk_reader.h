// Serves reads: from the cache, or from the device straight into the caller's memory where the
// range allows it. Not one byte leaves unverified.
#ifndef PANDO_STORE_CHUNK_READER_H_
#define PANDO_STORE_CHUNK_READER_H_

#include <cstdint>
#include <span>
#include <vector>

#include "store/partition.h"

namespace pando {

struct ReadResult {
  ErrorCode code = ErrorCode::kOk;
  int32_t os_error = 0;
  uint32_t length = 0;
};

class ChunkReader {
 public:
  explicit ChunkReader(Partition& partition) : partition_(partition) {}

  /// The range from the cache, if all of it is there.
  [[nodiscard]] bool ReadCached(const IndexEntry& entry, uint32_t offset, uint32_t length,
                                std::byte* out);
  /// REQUIRES: offset + length <= entry.length, length > 0; `out` is page aligned and owns whole
  /// pages.
  Task<ReadResult> Read(IndexEntry entry, uint32_t offset, uint32_t length, std::byte* out);

  /// The whole payload, verified against the index entry, into page-aligned memory that holds its
  /// pages. kCorruptChunk or kIoError otherwise. Neither cached nor counted; for the collector and
  /// the scrubber.
  Task<ReadResult> ReadWhole(IndexEntry entry, std::byte* out, uint32_t* actual_crc);

 private:
  Task<ReadResult> ReadDirect(const IndexEntry& entry, uint32_t offset, uint32_t length,
                              std::byte* out);
  Task<ReadResult> ReadBlocks(const IndexEntry& entry, uint32_t offset, uint32_t length,
                              std::byte* out);
  Task<ReadResult> ReadAround(const IndexEntry& entry, uint32_t offset, uint32_t length,
                              std::byte* out);
  Task<bool> LoadBlockCrcs(const IndexEntry& entry, std::vector<uint32_t>& crcs);
  [[nodiscard]] AlignedBuffer TakeBuffer();
  void ReturnBuffer(AlignedBuffer buffer);
  void Cache(const IndexEntry& entry, uint32_t offset, std::span<const std::byte> bytes);
  [[nodiscard]] uint64_t ByteOffset(const IndexEntry& entry) const {
    return entry.address * kSlotBytes;
  }

  Partition& partition_;
  std::vector<AlignedBuffer> buffers_;  // idle ones, a block and two pages each
};

}  // namespace pando

#endif  // PANDO_STORE_CHUNK_READER_H_
