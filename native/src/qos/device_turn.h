// A coroutine's turn at the device: co_await it, use the device, Leave it.
#ifndef PANDO_QOS_DEVICE_TURN_H_
#define PANDO_QOS_DEVICE_TURN_H_

#include <coroutine>
#include <cstdint>

#include "qos/class_scheduler.h"

namespace pando {

/// Not asked for, it holds nothing. The destructor leaves. REQUIRES: stays where it is, and outlives the wait.
class DeviceTurn {
 public:
  DeviceTurn(ClassScheduler& scheduler, uint8_t qos_class, double cost) : scheduler_(scheduler) {
    item_.qos_class = qos_class;
    item_.cost = cost;
    item_.context = this;
    item_.run = [](QosItem* item) { static_cast<DeviceTurn*>(item->context)->Granted(); };
  }
  ~DeviceTurn() { Leave(); }
  DeviceTurn(const DeviceTurn&) = delete;
  DeviceTurn& operator=(const DeviceTurn&) = delete;

  [[nodiscard]] bool await_ready() const noexcept { return false; }
  bool await_suspend(std::coroutine_handle<> self) {
    waiter_ = nullptr;  // granted at once: no need to suspend
    // A queue that is full of background work: it goes on without a place rather than never.
    if (!scheduler_.Enter(&item_) || held_) return false;
    waiter_ = self;
    return true;
  }
  void await_resume() const noexcept {}

  void Leave() {
    if (!held_) return;
    held_ = false;
    scheduler_.Leave(&item_);
  }

 private:
  void Granted() {
    held_ = true;
    if (waiter_) waiter_.resume();
  }

  ClassScheduler& scheduler_;
  QosItem item_;
  std::coroutine_handle<> waiter_;
  bool held_ = false;
};

}  // namespace pando

#endif  // PANDO_QOS_DEVICE_TURN_H_
