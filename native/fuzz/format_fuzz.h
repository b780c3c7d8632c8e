// Feeds arbitrary bytes to the decoders of everything that is read from a device, and checks what
// they let through. Used by libFuzzer (fuzz/) and by a seeded test that any compiler builds
// (test/format_test.cc).
#ifndef PANDO_FUZZ_FORMAT_FUZZ_H_
#define PANDO_FUZZ_FORMAT_FUZZ_H_

#include <algorithm>
#include <cstring>
#include <span>
#include <vector>

#include "store/format.h"

namespace pando {

/// The first byte chooses the decoder, and whether the checksum (which random bytes never satisfy)
/// and the address are put right before.
inline void FuzzFormat(std::span<const std::byte> input) {
  if (input.empty()) return;
  const auto mode = static_cast<uint8_t>(input[0]);
  std::vector<std::byte> page(kPageBytes);
  const auto body = input.subspan(1);
  std::copy_n(body.begin(), std::min(body.size(), page.size()), page.begin());

  if (mode % 2 == 0) {
    if (mode & 2U) {
      Superblock superblock;
      std::memcpy(&superblock, page.data(), sizeof superblock);
      superblock.magic = kSuperblockMagic;
      if (mode & 4U) superblock.format_version = kFormatVersion;
      if (mode & 8U) superblock.page_bytes = kPageBytes;
      if (mode & 16U) superblock.data_offset = kDataOffset;
      SealSuperblock(superblock);
      std::memcpy(page.data(), &superblock, sizeof superblock);
    }
    const auto decoded = DecodeSuperblock(page);
    if (decoded.ok()) {
      PANDO_ASSERT(decoded.value().checkpoint_segment_count <= kMaxCheckpointSegments);
      PANDO_ASSERT(decoded.value().partition < decoded.value().partitions);
    }
    return;
  }
  HeaderContext context;
  context.segment = 3;
  context.page = 7;
  context.segment_pages = 16384;
  if (mode & 2U) {
    BatchHeader header;
    std::memcpy(&header, page.data(), sizeof header);
    header.magic = kBatchMagic;
    header.version = kFormatVersion;
    header.uuid = context.uuid;
    header.segment = context.segment;
    header.page = context.page;
    if (mode & 4U) header.kind = static_cast<uint16_t>(1 + header.kind % 3);
    if (mode & 8U) header.payload_pages %= 2000;
    if (mode & 16U) header.slots = static_cast<uint16_t>(header.slots % (kMaxSlots + 2));
    if (mode & 32U) header.stream = static_cast<uint8_t>(header.stream % kStreams);
    std::memcpy(page.data(), &header, sizeof header);
    SealHeaderPage(page);
  }
  const auto header = DecodeBatchHeader(page, context);
  if (!header.ok()) return;
  PANDO_ASSERT(context.page + 1 + header.value().payload_pages <= context.segment_pages);
  std::vector<RecordView> records;
  if (!DecodeRecords(page, header.value(), records).ok()) return;
  PANDO_ASSERT(records.size() <= kMaxSlots);
  const uint64_t bytes = uint64_t{1 + header.value().payload_pages} * kPageBytes;
  for (const RecordView& view : records) {
    const RecordHeader& record = view.header;
    if (static_cast<RecordType>(record.type) == RecordType::kDelete) continue;
    PANDO_ASSERT(record.length > 0 && record.length <= kMaxChunkBytes);
    PANDO_ASSERT(uint64_t{record.position} * kSlotBytes + record.length <= bytes);
    const uint32_t blocks = (record.length + kCrcBlockBytes - 1) / kCrcBlockBytes;
    if (record.length <= kCrcBlockBytes) continue;
    uint32_t mixed = 0;
    for (uint32_t block = 0; block < blocks; ++block) mixed ^= view.BlockCrc(block);
    static_cast<void>(mixed);
  }
}

}  // namespace pando

#endif  // PANDO_FUZZ_FORMAT_FUZZ_H_
