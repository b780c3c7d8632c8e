// The memory that a JavaScript thread and a reactor share: byte for byte, because one side of it is
// written by TypeScript through typed arrays. All integers are little-endian.
//
// A port has two regions, each exposed once as an ArrayBuffer:
//
//   rings region:  [control block, 4096 B][SQ: sq_entries * 64 B][CQ: cq_entries * 64 B]
//   slab region:   slab_bytes, page aligned; payloads only
//
// Head and tail words are free-running u32 counters (they wrap at 2^32); the slot of counter n is
// n & (entries - 1). Queue length = (tail - head) mod 2^32. Use Atomics.load/store/exchange on an
// Int32Array over the region: V8 makes them sequentially consistent, which the protocol below
// needs.
//
// Submitting (producer = JavaScript):
//   1. if tail - Atomics.load(sq_head) == sq_entries: full, wait for completions;
//   2. write the entry with plain stores; Atomics.store(sq_tail, tail + 1)  (once per burst is
//   best);
//   3. if Atomics.load(sleeping) == 1: call Port::Kick().
//   The reactor sets sleeping = 1 and then looks at sq_tail again before it sleeps, so a submission
//   is seen by one side or the other.
//
// Completing (consumer = JavaScript, in the doorbell's event):
//   1. head..Atomics.load(cq_tail): handle entries (at most 1024 a turn), Atomics.store(cq_head,
//   n);
//   2. drained: Atomics.store(armed, 1), then look at cq_tail AGAIN; if it moved: store armed = 0
//      and go to 1. (The reactor publishes cq_tail first and exchanges armed afterwards.)
//   3. if sq_head != sq_tail and Atomics.load(sleeping) == 1: Kick() (the reactor had stopped
//   taking
//      entries because the completion queue had no room; see below).
//   The doorbell callback runs at most once per armed -> disarmed transition, i.e. once per burst.
//
// The reactor takes a submission only while in-flight + unread completions < cq_entries, so a
// completion always finds room and nothing is dropped.
#ifndef PANDO_PORT_LAYOUT_H_
#define PANDO_PORT_LAYOUT_H_

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "pando/chunk_id.h"
#include "pando/result.h"

namespace pando {

inline constexpr uint32_t kPortLayoutVersion = 1;
inline constexpr uint32_t kPortMagic = 0x54524F50;  // "PORT"
inline constexpr size_t kSlabAlignment = 4096;

/// One word per cache line: producer and consumer never write the same line.
struct alignas(64) ControlWord {
  std::atomic<uint32_t> value{0};
};

/// Offset 0 of the rings region.
struct PortControl {
  ControlWord sq_head;   // offset   0, reactor writes: entries taken
  ControlWord sq_tail;   // offset  64, JavaScript writes: entries published
  ControlWord sleeping;  // offset 128, reactor writes: 1 = call Kick() after publishing
  ControlWord cq_head;   // offset 192, JavaScript writes: completions consumed
  ControlWord cq_tail;   // offset 256, reactor writes: completions published
  ControlWord armed;     // offset 320, JavaScript stores 1, reactor exchanges to 0 and rings
  ControlWord closed;    // offset 384, 1 once the port takes no more submissions
  // offset 448: constants, written before the port is handed out
  alignas(64) uint32_t magic = kPortMagic;       // 448
  uint32_t layout_version = kPortLayoutVersion;  // 452
  uint32_t sq_entries = 0;                       // 456
  uint32_t cq_entries = 0;                       // 460
  uint32_t sq_offset = 0;                        // 464, bytes from the start of the region
  uint32_t cq_offset = 0;                        // 468
  uint64_t slab_bytes = 0;                       // 472
};
static_assert(sizeof(std::atomic<uint32_t>) == 4 && std::atomic<uint32_t>::is_always_lock_free);
static_assert(offsetof(PortControl, sq_head) == 0);
static_assert(offsetof(PortControl, sq_tail) == 64);
static_assert(offsetof(PortControl, sleeping) == 128);
static_assert(offsetof(PortControl, cq_head) == 192);
static_assert(offsetof(PortControl, cq_tail) == 256);
static_assert(offsetof(PortControl, armed) == 320);
static_assert(offsetof(PortControl, closed) == 384);
static_assert(offsetof(PortControl, magic) == 448);
static_assert(offsetof(PortControl, slab_bytes) == 472);
inline constexpr size_t kPortControlBytes = 4096;
static_assert(sizeof(PortControl) <= kPortControlBytes);

enum class PortOp : uint8_t {
  kNop = 0,  // completes OK; for tests and latency probes
  kPut = 1,  // id, slab_offset, length (1..4 MiB). OK only when durable. CQ.crc32c = of the payload
  kGet = 2,  // id, chunk_offset, length -> slab_offset. CQ.length = bytes, CQ.chunk_length = whole
  kHas = 3,  // id. OK or CHUNK_NOT_FOUND; CQ.chunk_length, CQ.crc32c
  kDelete = 4,  // id. OK when durable, CHUNK_NOT_FOUND if there was none
  kList = 5,    // from id (inclusive), length = record limit -> ListRecord[] at slab_offset
                //   CQ.length = records, CQ.value = 1 when more follow (continue at CQ.id)
  kStats = 6,   // -> StoreStats at slab_offset; CQ.length = sizeof(StoreStats)
  kScrub = 7,   // position, budget_bytes, length = finding limit -> ScrubFinding[] at slab_offset
                //   CQ.length = findings, CQ.value = next position, 0 = the whole store was covered
  kSync = 8,    // OK when every earlier put and delete of this port has been settled
  kCollect =
      9,  // hint: reclaim space now; CQ.value = segments freed by this step (0 = nothing to do)
};
inline constexpr uint8_t kPortOpCount = 10;

/// kPut: bytes between length and the next 4 KiB boundary of the slab belong to the request and are
/// zeroed (they reach the disk). kGet: likewise they are scribbled on. A caller therefore owns
/// whole 4 KiB pages of the slab per request. slab_offset must be a multiple of 4096 for every op
/// that uses it.
struct SqEntry {
  uint64_t token;         // offset  0, returned untouched
  uint8_t op;             // offset  8, PortOp
  uint8_t qos_class;      // offset  9, position in the plan (SetPlan), below 64
  uint16_t flags;         // offset 10, must be 0
  uint32_t length;        // offset 12
  ChunkId id;             // offset 16
  uint64_t slab_offset;   // offset 32
  uint32_t chunk_offset;  // offset 40
  uint32_t budget_bytes;  // offset 44, kScrub: payload bytes to read at most (at least one batch)
  uint64_t position;      // offset 48, kScrub: 0 to begin, then CQ.value of the last step
  uint64_t reserved;      // offset 56, must be 0
};
static_assert(sizeof(SqEntry) == 64);
static_assert(offsetof(SqEntry, op) == 8 && offsetof(SqEntry, length) == 12);
static_assert(offsetof(SqEntry, id) == 16 && offsetof(SqEntry, slab_offset) == 32);
static_assert(offsetof(SqEntry, chunk_offset) == 40 && offsetof(SqEntry, budget_bytes) == 44);
static_assert(offsetof(SqEntry, position) == 48);

struct CqEntry {
  uint64_t token;         // offset  0
  uint32_t status;        // offset  8, ErrorCode
  uint32_t length;        // offset 12, bytes or records produced
  uint64_t value;         // offset 16, see PortOp
  uint32_t crc32c;        // offset 24, of the whole chunk
  uint32_t chunk_length;  // offset 28, of the whole chunk
  ChunkId id;             // offset 32, the request's id; kList: where to continue
  int32_t os_error;       // offset 48, errno behind IO_ERROR or DEVICE_OFFLINE, else 0
  uint32_t reserved0;     // offset 52
  uint64_t reserved1;     // offset 56
};
static_assert(sizeof(CqEntry) == 64);
static_assert(offsetof(CqEntry, status) == 8 && offsetof(CqEntry, value) == 16);
static_assert(offsetof(CqEntry, crc32c) == 24 && offsetof(CqEntry, chunk_length) == 28);
static_assert(offsetof(CqEntry, id) == 32 && offsetof(CqEntry, os_error) == 48);

/// One listed chunk, 32 bytes.
struct ListRecord {
  ChunkId id;       // offset  0
  uint32_t length;  // offset 16
  uint32_t crc32c;  // offset 20
  uint32_t flags;   // offset 24, bit 0: known to be damaged
  uint32_t reserved;
};
static_assert(sizeof(ListRecord) == 32);

enum class FindingKind : uint32_t {
  kPayload = 1,  // a live chunk's bytes do not match their checksum; id is set
  kHeader = 2,   // a batch header is unreadable; its live chunks are still served through the index
  kLostBatch =
      3,  // found at start-up: an acknowledged batch whose header is gone; its ids are unknown
  kUnreadable = 4,  // the device reported an error for the pages of a live chunk; id is set
};

/// One scrub finding, 64 bytes.
struct ScrubFinding {
  ChunkId id;                // offset  0, zero when unknown
  uint32_t kind;             // offset 16, FindingKind
  uint32_t partition;        // offset 20
  uint32_t segment;          // offset 24
  uint32_t page;             // offset 28, first 4 KiB page in the segment
  uint32_t length;           // offset 32, payload bytes, 0 when unknown
  uint32_t expected_crc32c;  // offset 36
  uint32_t actual_crc32c;    // offset 40
  int32_t os_error;          // offset 44
  uint64_t reserved[2];
};
static_assert(sizeof(ScrubFinding) == 64);

/// Counters and gauges, u64 each, in this order; new ones are appended. Summed over partitions
/// unless noted. Bytes are bytes of the device unless noted.
struct StoreStats {
  uint64_t chunks;                 //  0 live chunks
  uint64_t chunk_bytes;            //  1 their payload bytes
  uint64_t live_bytes;             //  2 what they take on the device (payload, slots, header share)
  uint64_t capacity_bytes;         //  3 configured
  uint64_t limit_bytes;            //  4 live_bytes at which puts are refused (92 %)
  uint64_t grown_bytes;            //  5 pre-written so far
  uint64_t segments_free;          //  6 pre-written and empty
  uint64_t segments_used;          //  7
  uint64_t segments_damaged;       //  8 in which a batch was lost
  uint64_t index_bytes;            //  9 RAM of the index
  uint64_t cache_bytes;            // 10 RAM of the read cache
  uint64_t cache_hits;             // 11
  uint64_t cache_misses;           // 12
  uint64_t puts;                   // 13 acknowledged
  uint64_t gets;                   // 14 served
  uint64_t deletes;                // 15 acknowledged
  uint64_t batches;                // 16 durable batches
  uint64_t bytes_written;          // 17 to the log, with headers and padding
  uint64_t bytes_read;             // 18
  uint64_t bytes_moved;            // 19 payload copied by the collector
  uint64_t segments_collected;     // 20
  uint64_t checkpoints;            // 21
  uint64_t corrupt_reads;          // 22 reads whose checksum failed (never served)
  uint64_t scrub_findings;         // 23
  uint64_t recovery_batches;       // 24 replayed at the last start
  uint64_t recovery_discarded;     // 25 torn, unacknowledged batches cut at the last start
  uint64_t recovery_lost_batches;  // 26 acknowledged batches found unreadable at the last start
  uint64_t recovery_us;            // 27
  uint64_t offline;                // 28 partitions that stopped writing after a device error
  uint64_t damaged_chunks;         // 29 live chunks known to be damaged
  uint64_t partitions;             // 30
  uint64_t reserved;               // 31
};
static_assert(sizeof(StoreStats) == 256);

}  // namespace pando

#endif  // PANDO_PORT_LAYOUT_H_
