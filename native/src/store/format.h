// The bytes on disk; FORMAT.md tells the same in prose. Everything read from a device goes through
// the Decode functions below, which trust nothing.
#ifndef PANDO_STORE_FORMAT_H_
#define PANDO_STORE_FORMAT_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "block/aligned_buffer.h"
#include "pando/chunk_id.h"
#include "pando/result.h"

namespace pando {

using DeviceUuid = std::array<uint8_t, 16>;

inline constexpr uint32_t kFormatVersion = 1;
inline constexpr uint64_t kSuperblockMagic = 0x314253444E4150ULL << 8U | 0x7F;  // 7F "PANDSB1"
inline constexpr uint32_t kBatchMagic = 0x54414250;                             // "PBAT"
inline constexpr uint32_t kSuperblockCopies = 4;
inline constexpr uint64_t kSuperblockSpacing = 256 * 1024;
inline constexpr uint64_t kDataOffset = 1 << 20;

inline constexpr uint32_t kSlotBytes = 64;
inline constexpr uint32_t kHeaderSlots = 2;  // the batch header takes the first two of 64
inline constexpr uint32_t kMaxSlots = 62;    // left for records and what belongs to them
inline constexpr uint32_t kCrcBlockBytes = 64 * 1024;
inline constexpr uint32_t kPackedLimit = 3 * 1024;  // payloads below share pages
inline constexpr uint32_t kStreams = 2;
inline constexpr uint32_t kUserStream = 0;
inline constexpr uint32_t kMoveStream = 1;
inline constexpr uint32_t kNoSegment = 0xFFFFFFFF;

/// Longest list of checkpoint segments that a superblock holds.
inline constexpr uint32_t kMaxCheckpointSegments = 900;

struct Superblock {
  uint64_t magic = kSuperblockMagic;         //   0
  uint32_t format_version = kFormatVersion;  //   8
  uint32_t page_bytes = kPageBytes;          //  12
  DeviceUuid uuid{};                         //  16
  uint32_t partition = 0;                    //  32
  uint32_t partitions = 1;                   //  36
  uint64_t sequence = 0;                     //  40, grows with every superblock written
  uint32_t segment_pages = 0;                //  48
  uint32_t reserved3 = 0;                    //  52
  uint64_t data_offset = kDataOffset;        //  56
  uint64_t checkpoint_id = 0;                //  64, 0: none
  uint64_t checkpoint_bytes = 0;             //  72, of the stream
  uint64_t replay_from = 0;               //  80, batches up to this sequence are in the checkpoint
  uint64_t chunk_count = 0;               //  88, entries in the stream
  uint32_t segment_count = 0;             //  96, segment records in the stream
  uint32_t checkpoint_crc = 0;            // 100, CRC32C of the stream
  uint32_t checkpoint_segment_count = 0;  // 104
  uint32_t reserved0 = 0;                 // 108
  uint64_t created_unix_ms = 0;           // 112
  uint64_t reserved1 = 0;                 // 120
  std::array<uint32_t, kMaxCheckpointSegments> checkpoint_segments{};  // 128
  std::array<uint8_t, 4092 - 128 - 4 * kMaxCheckpointSegments> reserved2{};
  uint32_t crc = 0;  // 4092, CRC32C of the 4092 bytes before
};
static_assert(sizeof(Superblock) == kPageBytes);
static_assert(offsetof(Superblock, sequence) == 40 && offsetof(Superblock, data_offset) == 56);
static_assert(offsetof(Superblock, checkpoint_segments) == 128 &&
              offsetof(Superblock, crc) == 4092);

enum class BatchKind : uint16_t {
  kData = 1,        // records
  kFree = 2,        // in a segment's last page: the segment of that generation holds nothing
  kCheckpoint = 3,  // first page of a checkpoint segment
};

inline constexpr uint8_t kBatchSeals = 1;  // the last batch of its segment

/// Where a stream's log is durable without a gap.
struct StreamPosition {
  uint32_t segment = kNoSegment;
  uint32_t generation = 0;
  uint32_t pages = 0;  // pages of the segment that are durable
};

struct BatchHeader {
  uint32_t magic = kBatchMagic;       //   0
  uint16_t version = kFormatVersion;  //   4
  uint16_t kind = 0;                  //   6, BatchKind
  DeviceUuid uuid{};                  //   8
  uint32_t segment = 0;               //  24
  uint32_t generation = 0;            //  28
  uint32_t page = 0;                  //  32, of this header, in the segment
  uint32_t payload_pages = 0;         //  36
  uint64_t sequence = 0;              //  40
  uint64_t durable_sequence = 0;  //  48, batches up to this one were durable when this was built
  uint32_t previous_crc = 0;      //  56, of the header page before it in the segment; first: 0
  uint16_t slots = 0;             //  60, used by records
  uint8_t stream = 0;             //  62
  uint8_t flags = 0;              //  63
  std::array<StreamPosition, kStreams> durable{};  // 64
  uint64_t checkpoint_id = 0;                      //  88, kCheckpoint
  uint32_t checkpoint_index = 0;                   //  96, kCheckpoint: nth segment of the stream
  std::array<uint8_t, 24> reserved{};              // 100
  uint32_t crc = 0;                                // 124, CRC32C of the page with this field zero
};
static_assert(sizeof(BatchHeader) == kHeaderSlots * kSlotBytes);
static_assert(offsetof(BatchHeader, sequence) == 40 && offsetof(BatchHeader, durable) == 64);
static_assert(offsetof(BatchHeader, checkpoint_id) == 88 && offsetof(BatchHeader, crc) == 124);

enum class RecordType : uint8_t { kPut = 1, kDelete = 2 };
inline constexpr uint8_t kRecordMoved = 1;  // kPut: a copy made by the collector
inline constexpr uint8_t kRecordCarried =
    2;  // kDelete: a copy; concerns records before origin_sequence
/// kPut: takes the place of a damaged copy, which lies in source_segment and is dead from here on.
inline constexpr uint8_t kRecordRepairs = 4;

struct RecordHeader {
  uint8_t type = 0;          //  0, RecordType
  uint8_t flags = 0;         //  1
  uint16_t extra_slots = 0;  //  2, slots after this one that belong to it
  uint32_t length = 0;       //  4, payload bytes
  ChunkId id;                //  8
  uint32_t crc = 0;          // 24, CRC32C of the whole payload
  uint32_t position = 0;     // 28, of the payload, in 64-byte units from the batch's first byte
  uint32_t source_segment = kNoSegment;  // 32, moved: where from; else: where the dead copy lies
  uint32_t source_generation = 0;        // 36
  uint64_t origin_sequence = 0;          // 40, delete: sequence of the first batch that carried it
  std::array<uint8_t, 16> reserved{};
};
static_assert(sizeof(RecordHeader) == kSlotBytes);
static_assert(offsetof(RecordHeader, crc) == 24 && offsetof(RecordHeader, origin_sequence) == 40);

/// One segment in a checkpoint.
struct SegmentRecord {
  uint32_t generation = 0;      //  0
  uint8_t state = 0;            //  4, SegmentState
  uint8_t stream = 0;           //  5
  uint8_t flags = 0;            //  6, SegmentFlag
  uint8_t reserved0 = 0;        //  7
  uint32_t applied_pages = 0;   //  8, pages whose batches are in the checkpoint
  uint32_t last_crc = 0;        // 12, of the last header page among them
  uint64_t first_sequence = 0;  // 16
  uint32_t tombstones = 0;      // 24
  uint32_t reserved1 = 0;       // 28
};
static_assert(sizeof(SegmentRecord) == 32);

/// One chunk in a checkpoint.
struct ChunkRecord {
  ChunkId id;           //  0
  uint32_t crc = 0;     // 16
  uint32_t packed = 0;  // 20, bits 0-22 length, bit 23 damaged, bits 24-30 header distance in pages
  uint64_t address = 0;  // 24, of the payload, in 64-byte units from the start of the device
};
static_assert(sizeof(ChunkRecord) == 32);

/// What a put or delete needs of a batch.
struct RecordShape {
  uint32_t slots = 0;          // its own and its CRC list's
  uint32_t payload_bytes = 0;  // rounded to 64 (packed) or to 4096
  bool packed = false;
};
[[nodiscard]] RecordShape ShapeOf(uint32_t length);
/// Bytes of the device that a live chunk is charged with: payload, slots and its share of headers.
[[nodiscard]] uint64_t ChargeOf(uint32_t length);

/// A record as found in a header page. Views into the page.
struct RecordView {
  RecordHeader header;
  std::span<const std::byte> crc_list;  // 4 bytes per 64 KiB block when length > 64 KiB, else empty
  [[nodiscard]] uint32_t BlockCrc(uint32_t block) const;
};

void SealSuperblock(Superblock& superblock);
/// Errors: CORRUPT_CHUNK (no superblock here), INVALID_ARGUMENT (a version this build does not
/// know).
[[nodiscard]] Result<Superblock> DecodeSuperblock(std::span<const std::byte> page);

/// Fills in the CRC. REQUIRES: page is 4096 bytes and begins with a BatchHeader.
void SealHeaderPage(std::span<std::byte> page);

struct HeaderContext {
  DeviceUuid uuid{};
  uint32_t segment = 0;
  uint32_t page = 0;
  uint32_t segment_pages = 0;
};
/// Errors: CORRUPT_CHUNK for anything that is not a header written for exactly this place.
[[nodiscard]] Result<BatchHeader> DecodeBatchHeader(std::span<const std::byte> page,
                                                    const HeaderContext& context);
/// Errors: CORRUPT_CHUNK. REQUIRES: DecodeBatchHeader has accepted the page.
[[nodiscard]] Status DecodeRecords(std::span<const std::byte> page, const BatchHeader& header,
                                   std::vector<RecordView>& records);

}  // namespace pando

#endif  // PANDO_STORE_FORMAT_H_
