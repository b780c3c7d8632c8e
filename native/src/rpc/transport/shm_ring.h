// A ring of bytes between two processes that need not trust each other: one writes, one reads. Each
// side keeps its own position to itself and only tells it to the other one; what the other tells is
// checked before it is used. Bytes are copied out before anybody looks at them, since their writer
// may go on changing them.
#ifndef PANDO_RPC_TRANSPORT_SHM_RING_H_
#define PANDO_RPC_TRANSPORT_SHM_RING_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

namespace pando::rpc {

/// All positions are multiples of this, so that a header never wraps.
inline constexpr size_t kRingUnit = 64;
constexpr size_t RoundToUnit(size_t bytes) { return (bytes + kRingUnit - 1) & ~(kRingUnit - 1); }

/// In shared memory. Positions are counts of bytes since the beginning; they never wrap.
struct RingControl {
  alignas(64) std::atomic<uint64_t> tail{0};           // the writer tells: written up to here
  alignas(64) std::atomic<uint64_t> head{0};           // the reader tells: read up to here
  alignas(64) std::atomic<uint32_t> reader_sleeps{0};  // ring the bell after writing
  alignas(64) std::atomic<uint32_t> writer_sleeps{0};  // ring the bell after reading
};
static_assert(sizeof(RingControl) == 256);
static_assert(std::atomic<uint64_t>::is_always_lock_free);

class RingWriter {
 public:
  /// `data` is a power of two long, at least 4096.
  RingWriter(RingControl* control, std::span<std::byte> data) : control_(control), data_(data) {}

  /// Bytes that can be written now. Looks at the other side's position only when `wanted` is more
  /// than what is known to be free.
  [[nodiscard]] size_t Free(size_t wanted);
  /// REQUIRES: no more than Free() told.
  void Write(std::span<const std::byte> bytes);
  /// Up to the next multiple of kRingUnit.
  void Pad() { tail_ = RoundToUnit(tail_); }
  /// Tells the reader. True: it sleeps, ring the bell.
  [[nodiscard]] bool Publish();
  /// We are about to sleep until there is room for a unit. False: there is already.
  [[nodiscard]] bool Arm();
  void Disarm() { control_->writer_sleeps.store(0, std::memory_order_relaxed); }
  /// The other side told a position that cannot be.
  [[nodiscard]] bool broken() const { return broken_; }

 private:
  void LookAtHead();

  RingControl* control_;
  std::span<std::byte> data_;
  uint64_t tail_ = 0;
  uint64_t published_ = 0;
  uint64_t head_ = 0;  // as last told
  bool broken_ = false;
};

class RingReader {
 public:
  RingReader(RingControl* control, std::span<std::byte> data) : control_(control), data_(data) {}

  /// Bytes that can be read now, likewise.
  [[nodiscard]] size_t Available(size_t wanted);
  /// REQUIRES: no more than Available() told.
  void Read(std::span<std::byte> into);
  void Skip(size_t bytes) { head_ += bytes; }
  /// Tells the writer. True: it sleeps and there is room worth waking it for, ring the bell.
  [[nodiscard]] bool Publish();
  /// We are about to sleep until something is written. False: something was already.
  [[nodiscard]] bool Arm();
  void Disarm() { control_->reader_sleeps.store(0, std::memory_order_relaxed); }
  [[nodiscard]] bool broken() const { return broken_; }

 private:
  void LookAtTail();

  RingControl* control_;
  std::span<std::byte> data_;
  uint64_t head_ = 0;
  uint64_t published_ = 0;
  uint64_t tail_ = 0;  // as last told
  bool broken_ = false;
};

}  // namespace pando::rpc

#endif  // PANDO_RPC_TRANSPORT_SHM_RING_H_
