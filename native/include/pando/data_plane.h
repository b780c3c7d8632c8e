// The door to the native data plane: reactors with their chunk store partitions, and ports through
// which other threads reach them. See port_layout.h for the memory a port shares.
#ifndef PANDO_DATA_PLANE_H_
#define PANDO_DATA_PLANE_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "pando/bdev.h"
#include "pando/fault_plan.h"
#include "pando/port_layout.h"
#include "pando/qos.h"
#include "pando/result.h"

namespace pando {

enum class LogLevel : uint8_t { kDebug, kInfo, kWarn, kError };

/// Called from reactor threads (one at a time) and from the thread in Open. Must not block or call
/// back.
using LogSink = std::function<void(LogLevel, std::string_view)>;

enum class Backend : uint8_t {
  kUring,   // io_uring with O_DIRECT; falls back to kPosix, and says so in the log, when refused
  kPosix,   // pread/pwrite on a small pool of threads, O_DIRECT where the file system has it
  kMemory,  // nothing survives Close; no directory needed
  kSpdk,    // block devices of SPDK (bdev.h), one a partition; INVALID_ARGUMENT when there is no SPDK
};

enum class WaitMode : uint8_t {
  kInterrupt,  // sleep in the kernel at once
  kAdaptive,   // spin up to 50 us, then sleep
  kBusy,       // never sleep
};

struct DataPlaneOptions {
  /// Created when missing (0700). Holds `lock` and one `store-<partition>.pando` per partition.
  std::string directory;
  Backend backend = Backend::kUring;
  /// Wraps the back end in one that misbehaves according to `faults`.
  bool faulty = false;
  FaultPlan faults;
  /// 0 = half of the cores, at least 1. One thread, ring and store partition each. A directory
  /// keeps the number it was created with: asking for another one is answered with a log line, not
  /// an error.
  uint32_t reactors = 0;
  WaitMode wait = WaitMode::kAdaptive;
  /// Pin reactor i to core i. Off by default: a machine shared with a JavaScript thread fares
  /// better so.
  bool pin = false;
  /// Read cache over all partitions.
  uint64_t cache_bytes = 64ULL << 20U;
  /// Largest size of all partition files together; rounded down to whole 64 MiB segments, at least
  /// 8 a partition. Files grow towards it one pre-written segment at a time, ahead of need. May be
  /// raised between runs; a value below what is already grown is answered with a log line and the
  /// grown size.
  uint64_t capacity_bytes = 16ULL << 30U;
  /// kSpdk: one for each partition (`reactors` is not looked at), in an order that never changes. The
  /// directory keeps `lock` and `bdevs.pando`, which says which devices belong to it; capacity_bytes
  /// of 0 takes them whole.
  std::vector<BdevOptions> bdevs;
  uint64_t spdk_memory_bytes = 256ULL << 20U;
  /// Segments to pre-write ahead of need in the background, a partition.
  uint32_t grow_ahead_segments = 2;
  LogSink log;
};

struct PortOptions {
  uint32_t sq_entries = 1024;  // power of two, 2..32768
  uint32_t cq_entries = 2048;  // power of two, at least sq_entries
  /// Rounded up to 4 KiB; at most 2 GiB - 4 KiB so that offsets stay small integers in JavaScript.
  uint64_t slab_bytes = 64ULL << 20U;
  /// Rings the consumer. Runs on a reactor thread, at most once per burst (see `armed`); must not
  /// block. Not called after Close has returned.
  std::function<void()> doorbell;
};

/// One producer and one consumer (usually the same JavaScript thread). Destroying it closes it.
class PANDO_EXPORT Port {
 public:
  virtual ~Port() = default;
  Port(const Port&) = delete;
  Port& operator=(const Port&) = delete;

  /// The rings region (control block, SQ, CQ). Stays mapped until the Port is destroyed.
  [[nodiscard]] virtual std::span<std::byte> rings() = 0;
  /// The slab region. Stays mapped until the Port is destroyed.
  [[nodiscard]] virtual std::span<std::byte> slab() = 0;
  [[nodiscard]] virtual bool slab_is_hugepage() const = 0;

  /// Wakes the reactor. Thread safe and cheap; a needless call is harmless.
  virtual void Kick() = 0;

  /// Takes no more submissions, answers queued ones with CANCELLED, lets the ones in flight finish
  /// (puts become durable), then returns; their completions are in the CQ. No doorbell rings
  /// afterwards. A second call returns at once. Safe from any thread except a reactor's (so: not
  /// from the doorbell).
  virtual void Close() = 0;

 protected:
  Port() = default;
};

class PANDO_EXPORT DataPlane {
 public:
  virtual ~DataPlane() = default;  // = Close()
  DataPlane(const DataPlane&) = delete;
  DataPlane& operator=(const DataPlane&) = delete;

  /// Opens or creates the directory, replays its logs and starts the reactors. Blocks for the
  /// length of the recovery (bounded by the checkpoint interval), so call it off the JavaScript
  /// thread. Errors: INVALID_ARGUMENT (options; a store of an unknown format version), CONFLICT
  /// (another process has the directory open), INSUFFICIENT_STORAGE (no room for the first
  /// segments), IO_ERROR, CORRUPT_CHUNK (no readable superblock).
  [[nodiscard]] static Result<std::unique_ptr<DataPlane>> Open(DataPlaneOptions options);

  /// Errors: INVALID_ARGUMENT, CLOSED, OVERLOADED (64 ports are open), INSUFFICIENT_STORAGE (no
  /// memory). REQUIRES: the Port is destroyed before the DataPlane.
  [[nodiscard]] virtual Result<std::unique_ptr<Port>> OpenPort(PortOptions options) = 0;

  /// Back end in use after probing: "uring", "posix" or "memory".
  [[nodiscard]] virtual std::string_view backend() const = 0;
  [[nodiscard]] virtual uint32_t partitions() const = 0;

  /// The numbers of all classes of service from now on, in the order of SqEntry::qos_class; each partition gets its part of
  /// the rates. Thread safe, takes effect on each reactor between two requests. Until the first call there is one class
  /// without limits. Errors: INVALID_ARGUMENT (none, more than 64, or numbers beyond the bounds of IsUsablePlan), CLOSED.
  [[nodiscard]] virtual Status SetPlan(std::span<const ClassPlan> plan) = 0;

  /// Closes open ports, writes a checkpoint and stops the reactors. Error: the checkpoint could not
  /// be written (nothing is lost; the next start replays more). A second call returns the same.
  [[nodiscard]] virtual Status Close() = 0;

 protected:
  DataPlane() = default;
};

/// Built with libibverbs and librdmacm: links can use RDMA where the machine has it.
PANDO_EXPORT bool HasRdma();

}  // namespace pando

#endif  // PANDO_DATA_PLANE_H_
