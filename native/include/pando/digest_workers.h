// Threads that digest bodies out of a port's slab, and compute fragments of erasure codes there. Each worker has a pair of rings in memory that
// it shares with one JavaScript thread, laid out like a port's (port_layout.h has the protocol of
// heads, tails, `sleeping` and `armed`). A stream belongs to one worker for life, so its updates
// are in order without a lock.
#ifndef PANDO_DIGEST_WORKERS_H_
#define PANDO_DIGEST_WORKERS_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>

#include "pando/digest.h"
#include "pando/port_layout.h"
#include "pando/result.h"

namespace pando {

enum class DigestOp : uint8_t {
  kUpdate = 1,  // digests length bytes at slab_offset
  kFinish = 2,  // ends the stream; the completion carries the results
  kAbort = 3,   // ends the stream without
  // Belongs to no stream. At slab_offset stand `length` bytes of 32-bit words: k, m, the length of a target, the number of
  // targets, then k sources of {fragment, offset in the slab, length} and the targets of {fragment, offset}. The words are read before
  // anything is written, so they may stand where the first target will.
  kRecompute = 4,
};

struct DigestSqEntry {
  uint32_t token;        // offset  0, returned untouched
  uint8_t op;            // offset  4, DigestOp
  uint8_t algorithms;    // offset  5, not 0: begins the stream, before the operation
  uint16_t reserved0;    // offset  6
  uint32_t stream;       // offset  8, chosen by JavaScript, below kMaxDigestStreams
  uint32_t length;       // offset 12
  uint64_t slab_offset;  // offset 16
  uint64_t reserved1;    // offset 24
};
static_assert(sizeof(DigestSqEntry) == 32 && offsetof(DigestSqEntry, slab_offset) == 16);

struct DigestCqEntry {
  uint32_t token;         // offset  0
  uint32_t status;        // offset  4, ErrorCode
  DigestResults results;  // offset  8, of kFinish
  uint8_t reserved[36];
};
static_assert(sizeof(DigestCqEntry) == 128 && offsetof(DigestCqEntry, results) == 8);

/// Of kRecompute, bytes: 16 sources and 24 targets at most.
inline constexpr uint32_t kMaxRecomputeBytes = 4 * (4 + 16 * 3 + 24 * 2);

inline constexpr uint32_t kMaxDigestStreams = 65536;

struct DigestWorkersOptions {
  uint32_t workers = 1;
  /// Entries of each ring, a power of two. REQUIRES: JavaScript has at most this many requests
  /// outstanding at a worker (published and their completions not consumed), so completions always
  /// find room.
  uint32_t entries = 256;
  /// The memory that updates point into, and where fragments are computed. Outlives the workers.
  std::span<std::byte> slab;
  /// As PortOptions::doorbell: on a worker's thread, at most once a burst, not after Close has
  /// returned.
  std::function<void()> doorbell;
};

class PANDO_EXPORT DigestWorkers {
 public:
  explicit DigestWorkers(DigestWorkersOptions options);
  ~DigestWorkers();  // = Close()
  DigestWorkers(const DigestWorkers&) = delete;
  DigestWorkers& operator=(const DigestWorkers&) = delete;

  [[nodiscard]] uint32_t workers() const;
  /// [control block, 4096 B][SQ: entries * 32 B][CQ: entries * 128 B] of one worker; mapped until
  /// destruction.
  [[nodiscard]] std::span<std::byte> rings(uint32_t worker);
  void Kick(uint32_t worker);
  /// Lets the entry under way finish, leaves the rest undone, joins the threads. A second call
  /// returns at once.
  void Close();

 private:
  class Worker;
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace pando

#endif  // PANDO_DIGEST_WORKERS_H_
