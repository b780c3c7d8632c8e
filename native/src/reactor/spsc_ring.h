#ifndef PANDO_REACTOR_SPSC_RING_H_
#define PANDO_REACTOR_SPSC_RING_H_

#include <atomic>
#include <cstdint>
#include <deque>
#include <vector>

namespace pando {

/// One producer, one consumer, no lock. What does not fit waits on the producer's side, in order;
/// its length is bounded by the slots of the ports that feed it.
template <typename T>
class SpscRing {
 public:
  explicit SpscRing(uint32_t entries = 4096) : slots_(entries), mask_(entries - 1) {}

  void Push(T value) {
    overflow_.push_back(value);
    Flush();
  }
  /// Producer: something waits for room.
  [[nodiscard]] bool waiting() const { return !overflow_.empty(); }
  /// Producer: moves what waits into the ring. True when nothing waits any more.
  bool Flush() {
    const uint32_t head = head_.load(std::memory_order_acquire);
    uint32_t tail = tail_.load(std::memory_order_relaxed);
    while (!overflow_.empty() && tail - head < slots_.size()) {
      slots_[tail & mask_] = overflow_.front();
      overflow_.pop_front();
      ++tail;
    }
    tail_.store(tail, std::memory_order_seq_cst);
    return overflow_.empty();
  }
  bool Pop(T& value) {
    const uint32_t head = head_.load(std::memory_order_relaxed);
    if (head == tail_.load(std::memory_order_seq_cst)) return false;
    value = slots_[head & mask_];
    head_.store(head + 1, std::memory_order_release);
    return true;
  }
  [[nodiscard]] bool empty() const {
    return head_.load(std::memory_order_seq_cst) == tail_.load(std::memory_order_seq_cst);
  }

 private:
  std::vector<T> slots_;
  uint32_t mask_;
  std::deque<T> overflow_;
  alignas(64) std::atomic<uint32_t> head_{0};
  alignas(64) std::atomic<uint32_t> tail_{0};
};

}  // namespace pando

#endif  // PANDO_REACTOR_SPSC_RING_H_
