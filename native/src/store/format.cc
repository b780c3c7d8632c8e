#include "store/format.h"

#include <cstring>

#include "pando/crc32c.h"

namespace pando {
namespace {

Error Corrupt(const char* what) { return Error{ErrorCode::kCorruptChunk, what}; }

template <typename T>
T Load(std::span<const std::byte> bytes, size_t offset) {
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

uint32_t PageCrc(std::span<const std::byte> page) {
  constexpr std::array<std::byte, 4> kZero{};
  constexpr size_t kField = offsetof(BatchHeader, crc);
  uint32_t crc = Crc32c(page.first(kField));
  crc = Crc32c(kZero, crc);
  return Crc32c(page.subspan(kField + 4), crc);
}

uint32_t CrcSlots(uint32_t length) {
  if (length <= kCrcBlockBytes) return 0;
  const uint32_t blocks = (length + kCrcBlockBytes - 1) / kCrcBlockBytes;
  return (blocks * 4 + kSlotBytes - 1) / kSlotBytes;
}

}  // namespace

RecordShape ShapeOf(uint32_t length) {
  RecordShape shape;
  shape.packed = length < kPackedLimit;
  shape.slots = 1 + CrcSlots(length);
  shape.payload_bytes =
      static_cast<uint32_t>(RoundUp(length, shape.packed ? kSlotBytes : kPageBytes));
  return shape;
}

uint64_t ChargeOf(uint32_t length) {
  const RecordShape shape = ShapeOf(length);
  // A chunk of 64 KiB and more may be nearly alone in its batch and then pays for a whole header
  // page.
  const uint64_t header = length >= kCrcBlockBytes ? kPageBytes : shape.payload_bytes / kSlotBytes;
  return uint64_t{shape.payload_bytes} + uint64_t{shape.slots} * kSlotBytes + header;
}

uint32_t RecordView::BlockCrc(uint32_t block) const {
  PANDO_ASSERT((block + 1) * 4 <= crc_list.size());
  return Load<uint32_t>(crc_list, size_t{block} * 4);
}

void SealSuperblock(Superblock& superblock) {
  superblock.crc =
      Crc32c(std::as_bytes(std::span(&superblock, 1)).first(offsetof(Superblock, crc)));
}

Result<Superblock> DecodeSuperblock(std::span<const std::byte> page) {
  if (page.size() != kPageBytes) return Corrupt("superblock: not a page");
  const auto superblock = Load<Superblock>(page, 0);
  if (superblock.magic != kSuperblockMagic) return Corrupt("superblock: no magic");
  if (superblock.crc != Crc32c(page.first(offsetof(Superblock, crc)))) {
    return Corrupt("superblock: checksum mismatch");
  }
  if (superblock.format_version != kFormatVersion) {
    return Error{ErrorCode::kInvalidArgument,
                 "the store has format version " + std::to_string(superblock.format_version) +
                     ", this build reads version " + std::to_string(kFormatVersion)};
  }
  if (superblock.page_bytes != kPageBytes || superblock.data_offset != kDataOffset ||
      superblock.segment_pages < 16 || superblock.segment_pages > (1U << 20U) ||
      superblock.checkpoint_segment_count > kMaxCheckpointSegments || superblock.partitions == 0 ||
      superblock.partition >= superblock.partitions) {
    return Corrupt("superblock: a field is out of range");
  }
  return superblock;
}

void SealHeaderPage(std::span<std::byte> page) {
  const uint32_t crc = PageCrc(page);
  std::memcpy(page.data() + offsetof(BatchHeader, crc), &crc, sizeof crc);
}

Result<BatchHeader> DecodeBatchHeader(std::span<const std::byte> page,
                                      const HeaderContext& context) {
  if (page.size() != kPageBytes) return Corrupt("batch header: not a page");
  const auto header = Load<BatchHeader>(page, 0);
  if (header.magic != kBatchMagic) return Corrupt("batch header: no magic");
  if (header.crc != PageCrc(page)) return Corrupt("batch header: checksum mismatch");
  // A valid page in the wrong place is a misdirected write, an old disk's content, or user data
  // that happens to hold an image of a store.
  if (header.uuid != context.uuid || header.segment != context.segment ||
      header.page != context.page) {
    return Corrupt("batch header: written for another place");
  }
  if (header.version != kFormatVersion) return Corrupt("batch header: unknown version");
  const auto kind = static_cast<BatchKind>(header.kind);
  if (kind != BatchKind::kData && kind != BatchKind::kFree && kind != BatchKind::kCheckpoint) {
    return Corrupt("batch header: unknown kind");
  }
  if (header.slots > kMaxSlots || header.stream >= kStreams ||
      header.payload_pages > context.segment_pages ||
      uint64_t{header.page} + 1 + header.payload_pages > context.segment_pages) {
    return Corrupt("batch header: a field is out of range");
  }
  return header;
}

Status DecodeRecords(std::span<const std::byte> page, const BatchHeader& header,
                     std::vector<RecordView>& records) {
  records.clear();
  const uint64_t batch_bytes = uint64_t{1 + header.payload_pages} * kPageBytes;
  for (uint32_t slot = 0; slot < header.slots;) {
    const size_t offset = size_t{kHeaderSlots + slot} * kSlotBytes;
    RecordView view{Load<RecordHeader>(page, offset), {}};
    const RecordHeader& record = view.header;
    const uint32_t next = slot + 1 + record.extra_slots;
    if (next > header.slots) return Corrupt("record: slots beyond the batch");
    const auto type = static_cast<RecordType>(record.type);
    if (type == RecordType::kPut) {
      if (record.length == 0 || record.length > kMaxChunkBytes) return Corrupt("record: length");
      const uint64_t first = uint64_t{record.position} * kSlotBytes;
      if (first + record.length > batch_bytes) return Corrupt("record: payload beyond the batch");
      const bool inline_payload = first < kPageBytes;
      const size_t own_end = size_t{kHeaderSlots + next} * kSlotBytes;
      if (inline_payload && (first < offset + kSlotBytes || first + record.length > own_end)) {
        return Corrupt("record: payload overlaps the header");
      }
      if (!inline_payload && record.extra_slots != CrcSlots(record.length)) {
        return Corrupt("record: checksum list");
      }
      if (record.length >= kPackedLimit && first % kPageBytes != 0) {
        return Corrupt("record: payload is not page aligned");
      }
      if (record.length > kCrcBlockBytes) {
        const size_t blocks = (record.length + kCrcBlockBytes - 1) / kCrcBlockBytes;
        view.crc_list = page.subspan(offset + kSlotBytes, blocks * 4);
      }
    } else if (type == RecordType::kDelete) {
      if (record.length != 0 || record.extra_slots != 0) return Corrupt("record: a long delete");
    } else {
      return Corrupt("record: unknown type");
    }
    records.push_back(view);
    slot = next;
  }
  return {};
}

}  // namespace pando
