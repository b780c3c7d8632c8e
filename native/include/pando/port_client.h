// The consumer's side of a port in C++: what addon.ts does in TypeScript. For tests, benchmarks and
// native users.
#ifndef PANDO_PORT_CLIENT_H_
#define PANDO_PORT_CLIENT_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "pando/data_plane.h"
#include "pando/port_layout.h"

namespace pando {

class PortClient {
 public:
  explicit PortClient(Port& port)
      : port_(port),
        control_(reinterpret_cast<PortControl*>(port.rings().data())),
        sq_(reinterpret_cast<SqEntry*>(port.rings().data() + control_->sq_offset)),
        cq_(reinterpret_cast<CqEntry*>(port.rings().data() + control_->cq_offset)) {}

  /// False when the queue is full. Publish makes it seen.
  [[nodiscard]] bool Push(const SqEntry& entry) {
    if (tail_ - control_->sq_head.value.load() == control_->sq_entries) return false;
    sq_[tail_ & (control_->sq_entries - 1)] = entry;
    ++tail_;
    return true;
  }
  void Publish() {
    control_->sq_tail.value.store(tail_);
    if (control_->sleeping.value.load() == 1) port_.Kick();
  }
  [[nodiscard]] bool Pop(CqEntry& entry) {
    const uint32_t head = control_->cq_head.value.load(std::memory_order_relaxed);
    if (head == control_->cq_tail.value.load()) return false;
    entry = cq_[head & (control_->cq_entries - 1)];
    control_->cq_head.value.store(head + 1);
    if (control_->sleeping.value.load() == 1 && control_->sq_head.value.load() != tail_)
      port_.Kick();
    return true;
  }
  /// Asks for a doorbell. True when completions have come meanwhile: then pop first.
  [[nodiscard]] bool Arm() {
    control_->armed.value.store(1);
    if (control_->cq_head.value.load() == control_->cq_tail.value.load()) return false;
    control_->armed.value.store(0);
    return true;
  }
  [[nodiscard]] std::span<std::byte> slab() { return port_.slab(); }

 private:
  Port& port_;
  PortControl* control_;
  SqEntry* sq_;
  CqEntry* cq_;
  uint32_t tail_ = 0;
};

}  // namespace pando

#endif  // PANDO_PORT_CLIENT_H_
