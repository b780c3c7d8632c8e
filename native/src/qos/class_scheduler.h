// Who may use a device next. Classes share it after mClock (Gulati, Merchant, Varman, OSDI 2010): what a class has reserved
// comes first, what is left goes by weight, and no class gets more than its limit. Tags belong to classes, not to requests, as a
// class is served in the order of arrival.
//
// While one class is alone, nothing is held back and no clock is read. Once two were seen within a second, at most
// `kWindowUnits` of cost are under way at the device, because only what has not been handed to it can still be put in order.
//
// Single-threaded; time comes in through the constructor.
#ifndef PANDO_QOS_CLASS_SCHEDULER_H_
#define PANDO_QOS_CLASS_SCHEDULER_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

#include "pando/qos.h"

namespace pando {

/// Something that waits for the device. Lives with its user until Leave.
struct QosItem {
  uint8_t qos_class = 0;  // beyond the plan's classes: the first one
  double cost = 1;        // units, see CostUnits
  /// Called once, inside Enter or Pump, when it may go.
  void (*run)(QosItem*) = nullptr;
  void* context = nullptr;

  // The scheduler's own.
  QosItem* next = nullptr;
  uint8_t charged_class = 0;
};

class ClassScheduler {
 public:
  /// Cost under way at the device while classes compete: keeps flash busy, and is 4 MiB of large requests.
  static constexpr double kWindowUnits = 64;
  /// Requests of one class that may wait; more are refused.
  static constexpr size_t kQueueLimit = 1024;
  /// How long a class counts as a competitor after its last request.
  static constexpr uint64_t kCompeteUs = 1000000;
  /// A class within its limit gets a request in so much time, whatever the others have reserved.
  static constexpr uint64_t kStarvedUs = 1000000;

  /// Monotonic microseconds.
  explicit ClassScheduler(std::function<uint64_t()> now_us);

  /// The numbers of all classes from now on, in their order. At most kMostQosClasses. What waits stays in its queue.
  void SetPlan(std::span<const ClassPlan> plan);

  /// Lets the item go now or later. False: its class has too many waiting, and the item is not taken.
  [[nodiscard]] bool Enter(QosItem* item) {
    ClassState& state = StateOf(item->qos_class);
    // Nobody else was seen lately, and nothing limits it: the way of nearly all requests.
    if (&state == sole_ && !open_) {
      item->charged_class = static_cast<uint8_t>(&state - classes_.data());
      state.in_flight += item->cost;
      in_flight_ += item->cost;
      item->run(item);
      return true;
    }
    return EnterAmongOthers(item, state);
  }

  /// The item is done with the device.
  void Leave(QosItem* item) {
    classes_[item->charged_class].in_flight -= item->cost;
    in_flight_ -= item->cost;
  }

  /// Runs the items whose turn has come; returns how many.
  size_t Pump();
  /// When Pump has something to do although nothing enters or leaves; microseconds from now.
  [[nodiscard]] uint64_t NextTimerUs() const;

  /// Runs all that waits in a class, whatever the plan says: for work that others wait for.
  size_t Release(uint8_t qos_class);
  /// From now on nothing is held back: the device is being closed, or a port that waits for its requests.
  void SetOpen(bool open) { open_ = open; }

  [[nodiscard]] size_t waiting() const { return waiting_; }
  /// Items that did not go at once, ever.
  [[nodiscard]] uint64_t held_back() const { return held_back_; }

 private:
  struct ClassState {
    ClassPlan plan;
    QosItem* head = nullptr;
    QosItem* tail = nullptr;
    size_t waiting = 0;
    double in_flight = 0;
    /// When the next item is due by reservation; microseconds, may lie in the past.
    double reservation_tag = 0;
    /// Virtual time of the next item by weight.
    double weight_tag = 0;
    /// When the next item keeps the limit without a burst.
    double limit_tag = 0;
    uint64_t last_seen_us = 0;
    uint64_t served_us = 0;  // or when it began to wait
    bool seen = false;
    bool is_new = false;  // not seen lately: its first item does not wait for what was there before
  };

  [[nodiscard]] ClassState& StateOf(uint8_t qos_class) {
    return classes_[qos_class < count_ ? qos_class : 0];
  }
  bool EnterAmongOthers(QosItem* item, ClassState& state);
  [[nodiscard]] bool Competes(uint64_t now) const;
  [[nodiscard]] static bool WithinLimit(const ClassState& state, double now);
  [[nodiscard]] ClassState* Choose(uint64_t now, bool* by_reservation);
  void Begin(ClassState& state, uint64_t now);
  void Serve(ClassState& state, uint64_t now, bool by_reservation);
  QosItem* Pop(ClassState& state);
  size_t PumpAt(uint64_t now);
  void ElectSole(uint64_t now);

  std::function<uint64_t()> now_us_;
  std::array<ClassState, kMostQosClasses> classes_;
  size_t count_ = 1;
  ClassState* sole_ = nullptr;
  double in_flight_ = 0;
  double virtual_time_ = 0;
  size_t waiting_ = 0;
  uint64_t held_back_ = 0;
  bool open_ = false;
};

}  // namespace pando

#endif  // PANDO_QOS_CLASS_SCHEDULER_H_
