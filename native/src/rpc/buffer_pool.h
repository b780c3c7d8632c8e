// Page-aligned buffers for payloads, out of one region: powers of two from 4 KiB to 4 MiB by the
// buddy system (Knowlton, 1965), lowest address first. What cannot be served waits in order.
#ifndef PANDO_RPC_BUFFER_POOL_H_
#define PANDO_RPC_BUFFER_POOL_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "block/aligned_buffer.h"
#include "pando/chunk_id.h"

namespace pando::rpc {

/// Somebody who waits for a buffer. Intrusive.
struct BufferWaiter {
  uint32_t bytes = 0;
  /// Runs in BufferPool::Serve with the buffer, which is the waiter's from then on.
  void (*ready)(BufferWaiter*, std::byte* memory) = nullptr;
  void* context = nullptr;
  BufferWaiter* next = nullptr;
  bool waiting = false;
};

class BufferPool {
 public:
  /// `region` is page aligned; whole blocks of 4 MiB are used.
  explicit BufferPool(std::span<std::byte> region);

  /// Nullptr when there is none, or while somebody waits (nobody is overtaken). REQUIRES: 1 to
  /// kMaxChunkBytes.
  [[nodiscard]] std::byte* Take(uint32_t bytes);
  void Give(std::byte* memory);

  void Wait(BufferWaiter* waiter);
  void StopWaiting(BufferWaiter* waiter);
  /// Serves those who wait, in order, as far as buffers go. Returns how many.
  size_t Serve();

  [[nodiscard]] uint64_t used_bytes() const { return used_bytes_; }
  [[nodiscard]] uint64_t total_bytes() const { return uint64_t{pages_} * kPageBytes; }
  [[nodiscard]] bool has_waiters() const { return first_ != nullptr; }
  [[nodiscard]] std::span<std::byte> region() const { return region_; }

 private:
  static constexpr uint32_t kOrders = 11;
  static constexpr uint32_t kBlockPages = 1U << (kOrders - 1);
  static constexpr uint32_t kNone = 0xFFFFFFFF;
  static constexpr uint8_t kInside = 0xFF;  // page is not the first of anything
  static constexpr uint8_t kTaken = 0x80;   // | order

  [[nodiscard]] std::byte* Carve(uint32_t bytes);
  void Link(uint32_t page, uint32_t order);
  void Unlink(uint32_t page, uint32_t order);

  std::span<std::byte> region_;
  uint32_t pages_ = 0;
  uint64_t used_bytes_ = 0;
  std::array<uint32_t, kOrders> heads_{};
  std::vector<uint32_t> next_;
  std::vector<uint32_t> previous_;
  std::vector<uint8_t> state_;
  BufferWaiter* first_ = nullptr;
  BufferWaiter* last_ = nullptr;
};

}  // namespace pando::rpc

#endif  // PANDO_RPC_BUFFER_POOL_H_
