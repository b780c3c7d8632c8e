// What the parts of one store partition share: the device, the segments, the index, the counters.
// One reactor owns it; nothing here is thread safe, nothing here waits.
#ifndef PANDO_STORE_PARTITION_H_
#define PANDO_STORE_PARTITION_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "block/block_device.h"
#include "pando/data_plane.h"
#include "pando/port_layout.h"
#include "qos/class_scheduler.h"
#include "store/format.h"
#include "store/index.h"
#include "store/read_cache.h"
#include "store/task.h"

namespace pando {

struct StoreOptions {
  uint32_t partition = 0;
  uint32_t partitions = 1;
  DeviceUuid uuid{};  // of a store to be created
  uint64_t created_unix_ms = 0;
  uint32_t segment_pages = 16384;    // 64 MiB; of a store to be created
  uint32_t capacity_segments = 256;  // grow up to here
  uint32_t initial_segments = 2;     // of a store to be created
  uint32_t grow_ahead_segments = 2;
  uint64_t cache_bytes = 64ULL << 20U;
  uint64_t checkpoint_log_bytes = 1ULL << 30U;  // log between two checkpoints
  uint64_t vouch_after_us = 1000000;  // idle time until the tail of the log is vouched for
  bool collect_in_background = true;
  std::function<uint64_t()> now_us;  // monotonic
  LogSink log;
};

enum class SegmentState : uint8_t {
  kFree = 0,
  kOpen = 1,  // a stream appends to it
  kSealed = 2,
  kCheckpoint = 3,
};

inline constexpr uint8_t kSegmentDamaged = 1;  // a batch in it was lost: nothing is appended, and
                                               // it is read through before it is used again
inline constexpr uint8_t kSegmentVictim = 2;   // its collection has begun
inline constexpr uint8_t kSegmentBlocked =
    4;  // holds a chunk that cannot be read, until that one goes; or empty, a place like that

struct Segment {
  uint32_t generation = 0;
  SegmentState state = SegmentState::kFree;
  uint8_t stream = 0;
  uint8_t flags = 0;
  uint32_t next_page = 0;      // where the next batch goes
  uint32_t last_crc = 0;       // of the header page built last
  uint32_t applied_pages = 0;  // pages whose batches are durable and in the index
  uint32_t applied_crc = 0;    // of the last header page among them
  uint64_t first_sequence = 0;
  uint64_t sealed_sequence = 0;
  uint64_t live_bytes = 0;  // ChargeOf of its live chunks
  uint32_t live_chunks = 0;
  uint32_t tombstones = 0;
  uint32_t pins = 0;  // reads under way
};

/// Durable writes of the user's stream that carried records.
struct RecentWrites {
  uint64_t count = 0;
  uint64_t bytes = 0;
};

class Partition {
 public:
  Partition(BlockDevice& block_device, StoreOptions store_options);

  [[nodiscard]] uint64_t segment_bytes() const {
    return uint64_t{superblock.segment_pages} * kPageBytes;
  }
  [[nodiscard]] uint64_t OffsetOf(uint32_t segment, uint32_t page) const {
    return kDataOffset + segment * segment_bytes() + uint64_t{page} * kPageBytes;
  }
  [[nodiscard]] uint32_t SegmentOf(const IndexEntry& entry) const {
    return static_cast<uint32_t>((entry.address * kSlotBytes - kDataOffset) / segment_bytes());
  }
  /// Page in the segment that holds the payload's first byte.
  [[nodiscard]] uint32_t PageOf(const IndexEntry& entry) const {
    return static_cast<uint32_t>((entry.address * kSlotBytes - kDataOffset) % segment_bytes() /
                                 kPageBytes);
  }
  [[nodiscard]] HeaderContext ContextOf(uint32_t segment, uint32_t page) const {
    return {superblock.uuid, segment, page, superblock.segment_pages};
  }
  /// The last page of a segment that batches may use; after it come the seal and the free marker.
  [[nodiscard]] uint32_t log_pages() const { return superblock.segment_pages - 2; }
  [[nodiscard]] uint32_t marker_page() const { return superblock.segment_pages - 1; }
  /// Largest chunk that fits a segment.
  [[nodiscard]] uint32_t max_chunk_bytes() const;

  /// Index and accounting move together, or not at all.
  void InsertChunk(const IndexEntry& entry);
  bool RemoveChunk(const ChunkId& id);
  void MarkDamaged(const IndexEntry& entry);
  /// Recomputes all that InsertChunk and RemoveChunk maintain; true when nothing differed.
  bool RecountLive();

  [[nodiscard]] uint32_t free_segments() const { return free_count_; }  // that exist
  [[nodiscard]] uint32_t ungrown_segments() const;
  [[nodiscard]] uint64_t capacity_bytes() const;
  [[nodiscard]] uint64_t limit_bytes() const;
  /// A free segment that exists, provided that more than `reserve` remain counting what can be
  /// grown.
  [[nodiscard]] std::optional<uint32_t> TakeFreeSegment(uint32_t reserve);

  /// Makes a segment free. REQUIRES: nothing in it is live and nobody reads it.
  void SetFree(uint32_t segment);
  /// Adds a segment that the grower made.
  void AddSegment();
  void RecountFree();

  /// After a failed write or flush nothing the device says about earlier writes can be believed: no
  /// more writes, ever, by this process. Reads go on.
  void GoOffline(const char* what, int64_t result);
  void Log(LogLevel level, const std::string& text) const;
  [[nodiscard]] uint64_t Now() const { return options.now_us(); }
  void Unpin(uint32_t segment);
  void AddFinding(FindingKind kind, uint32_t segment, uint32_t page);
  /// What was found in a segment ends with it.
  void DropFindings(uint32_t segment);

  BlockDevice& device;
  StoreOptions options;
  Superblock superblock;
  std::vector<Segment> segments;
  Index index;
  ReadCache cache;
  StoreStats stats{};
  ClassScheduler scheduler;  // who may use the device next
  TaskScope tasks;
  WaitQueue unpinned;
  WaitQueue settled;  // woken whenever batches have been applied, and while the device is offline

  bool offline = false;
  int32_t offline_errno = 0;
  bool closing = false;
  bool full = false;              // the device refused to grow, and has not grown since
  bool collect_now = false;       // somebody asked for, or waits for, space
  uint64_t applied_sequence = 0;  // every batch up to it is durable and applied
  uint64_t log_bytes_since_checkpoint = 0;
  RecentWrites recent_puts;                  // what the grower decides by
  std::vector<ScrubFinding> start_findings;  // what recovery found; bounded

 private:
  uint32_t free_count_ = 0;
};

/// Segments that puts leave to the collector, to deletes and to checkpoints.
inline constexpr uint32_t kPutReserve = 4;

}  // namespace pando

#endif  // PANDO_STORE_PARTITION_H_
