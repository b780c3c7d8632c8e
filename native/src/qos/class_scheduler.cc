#include "qos/class_scheduler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

namespace pando {
namespace {

constexpr double kSecondUs = 1e6;
constexpr double kDefaultBurstUs = 100000;
/// How far a reservation may catch up after the device was too slow for it.
constexpr double kMostLagUs = 1e6;
/// Of a rate, what one of many partitions may be left with: a large request is still charged a time that doubles count in.
constexpr double kLeastPart = kLeastRate / 1000;
/// Cost units that a class may claim of what went to others under another plan.
constexpr double kMostClaim = 1024;

// What a burst is worth in time at a rate.
double BurstUs(const ClassPlan& plan, double rate) {
  return plan.burst > 0 ? plan.burst / rate * kSecondUs : kDefaultBurstUs;
}

// Numbers that mean nothing are those of no plan; of others the nearest that tags can be kept by.
ClassPlan Workable(const ClassPlan& plan) {
  const auto means = [](double value) {
    return value >= 0 && value <= std::numeric_limits<double>::max();
  };
  if (!(plan.weight > 0) || !means(plan.weight) || !means(plan.reservation) ||
      !means(plan.limit) || !means(plan.burst)) {
    return {};
  }
  const auto rate = [](double value) {
    return value > 0 ? std::clamp(value, kLeastPart, kMostRate) : 0;
  };
  return {std::clamp(plan.weight, kLeastWeight, kMostWeight), rate(plan.reservation),
          rate(plan.limit), std::min(plan.burst, kMostRate)};
}

// A tag in the future was earned at the old rate; at the new one the same cost takes another time.
double Rescaled(double tag, double now, double old_rate, double new_rate) {
  if (new_rate <= 0 || old_rate <= 0) return now;
  return tag > now ? now + (tag - now) * old_rate / new_rate : tag;
}

// The same for virtual time, else one item of a light class would outlive the plan that made it light. It has moved the virtual time
// as well, so what the others have missed by it is no claim without end either.
double Reweighed(double tag, double virtual_time, double old_weight, double new_weight) {
  if (tag <= virtual_time) return std::max(tag, virtual_time - kMostClaim / new_weight);
  return virtual_time + (tag - virtual_time) * old_weight / new_weight;
}

}  // namespace

ClassScheduler::ClassScheduler(std::function<uint64_t()> now_us) : now_us_(std::move(now_us)) {}

void ClassScheduler::SetPlan(std::span<const ClassPlan> plan) {
  const size_t count = std::min(plan.size(), kMostQosClasses);
  if (count == 0) return;
  const auto now = static_cast<double>(now_us_());
  // What waits in a class that is no more goes with the first.
  for (size_t i = count; i < count_; ++i) {
    ClassState& gone = classes_[i];
    if (gone.head == nullptr) continue;
    ClassState& first = classes_[0];
    if (first.head == nullptr) Begin(first, static_cast<uint64_t>(now));
    (first.tail != nullptr ? first.tail->next : first.head) = gone.head;
    first.tail = gone.tail;
    first.waiting += gone.waiting;
    gone.head = gone.tail = nullptr;
    gone.waiting = 0;
  }
  for (size_t i = 0; i < count; ++i) {
    ClassState& state = classes_[i];
    const ClassPlan next = Workable(plan[i]);
    state.weight_tag = Reweighed(state.weight_tag, virtual_time_, state.plan.weight, next.weight);
    state.limit_tag = Rescaled(state.limit_tag, now, state.plan.limit, next.limit);
    state.reservation_tag =
        Rescaled(state.reservation_tag, now, state.plan.reservation, next.reservation);
    state.plan = next;
  }
  count_ = count;
  sole_ = nullptr;
}

bool ClassScheduler::Competes(uint64_t now) const {
  size_t active = 0;
  for (size_t i = 0; i < count_; ++i) {
    const ClassState& state = classes_[i];
    const bool lately = state.seen && now - state.last_seen_us < kCompeteUs;
    if (state.waiting > 0 || state.in_flight > 0 || lately) ++active;
  }
  return active > 1;
}

// The class that everybody is of, if it needs no watching.
void ClassScheduler::ElectSole(uint64_t now) {
  sole_ = nullptr;
  if (waiting_ > 0 || Competes(now)) return;
  ClassState* latest = nullptr;
  for (size_t i = 0; i < count_; ++i) {
    ClassState& state = classes_[i];
    if (state.seen && (latest == nullptr || state.last_seen_us > latest->last_seen_us)) {
      latest = &state;
    }
  }
  if (latest != nullptr && latest->plan.limit <= 0) sole_ = latest;
}

bool ClassScheduler::EnterAmongOthers(QosItem* item, ClassState& state) {
  if (state.waiting >= kQueueLimit && !open_) return false;
  const uint64_t now = now_us_();
  if (sole_ != nullptr && sole_ != &state) {
    // It was not watched while it was alone; it may have been here a moment ago.
    sole_->last_seen_us = now;
    sole_ = nullptr;
  }
  if (!state.seen || now - state.last_seen_us >= kCompeteUs) {
    state.is_new = state.waiting == 0 && state.in_flight <= 0;
  }
  state.seen = true;
  state.last_seen_us = now;
  if (state.head == nullptr) Begin(state, now);
  item->next = nullptr;
  item->charged_class = static_cast<uint8_t>(&state - classes_.data());
  (state.tail != nullptr ? state.tail->next : state.head) = item;
  state.tail = item;
  ++state.waiting;
  ++waiting_;
  const size_t ran = PumpAt(now);
  if (ran == 0) ++held_back_;
  if (waiting_ == 0) ElectSole(now);
  return true;
}

// A class that was idle starts level with the others: it keeps what a burst allows, and nothing else.
void ClassScheduler::Begin(ClassState& state, uint64_t now) {
  const auto at = static_cast<double>(now);
  if (state.plan.reservation > 0) {
    const double burst = BurstUs(state.plan, state.plan.reservation);
    state.reservation_tag = std::max(state.reservation_tag, at - burst);
  }
  state.weight_tag = std::max(state.weight_tag, virtual_time_);
  state.served_us = now;
}

bool ClassScheduler::WithinLimit(const ClassState& state, double now) {
  if (state.plan.limit <= 0) return true;
  return state.limit_tag <= now + BurstUs(state.plan, state.plan.limit);
}

ClassScheduler::ClassState* ClassScheduler::Choose(uint64_t now, bool* by_reservation) {
  const auto at = static_cast<double>(now);
  const bool has_room = in_flight_ < kWindowUnits || !Competes(now);
  ClassState* reserved = nullptr;
  ClassState* weighted = nullptr;
  ClassState* starved = nullptr;
  for (size_t i = 0; i < count_; ++i) {
    ClassState& state = classes_[i];
    if (state.head == nullptr) continue;
    if (!WithinLimit(state, at)) {
      // What the limit takes from it is not owed to it when the limit is lifted.
      state.weight_tag = std::max(state.weight_tag, virtual_time_);
      continue;
    }
    if (!has_room && !state.is_new) continue;
    if (now - state.served_us >= kStarvedUs &&
        (starved == nullptr || state.served_us < starved->served_us)) {
      starved = &state;
    }
    if (state.plan.reservation > 0 && state.reservation_tag <= at &&
        (reserved == nullptr || state.reservation_tag < reserved->reservation_tag)) {
      reserved = &state;
    }
    if (weighted == nullptr || state.weight_tag < weighted->weight_tag) weighted = &state;
  }
  if (starved != nullptr) {
    *by_reservation = starved == reserved;
    return starved;
  }
  *by_reservation = reserved != nullptr;
  return reserved != nullptr ? reserved : weighted;
}

void ClassScheduler::Serve(ClassState& state, uint64_t now, bool by_reservation) {
  const auto at = static_cast<double>(now);
  const double cost = state.head->cost;
  if (by_reservation) {
    state.reservation_tag = std::max(state.reservation_tag, at - kMostLagUs) +
                            cost / state.plan.reservation * kSecondUs;
  } else {
    virtual_time_ = std::max(virtual_time_, state.weight_tag);
    state.weight_tag += cost / state.plan.weight;
  }
  if (state.plan.limit > 0) {
    state.limit_tag = std::max(state.limit_tag, at) + cost / state.plan.limit * kSecondUs;
  }
  state.served_us = now;
  state.is_new = false;
  QosItem* item = Pop(state);
  item->run(item);
}

QosItem* ClassScheduler::Pop(ClassState& state) {
  QosItem* item = state.head;
  state.head = item->next;
  if (state.head == nullptr) state.tail = nullptr;
  --state.waiting;
  --waiting_;
  // Of the class in which it waited: that may have become another one by a plan.
  item->charged_class = static_cast<uint8_t>(&state - classes_.data());
  state.in_flight += item->cost;
  in_flight_ += item->cost;
  return item;
}

size_t ClassScheduler::PumpAt(uint64_t now) {
  size_t ran = 0;
  while (waiting_ > 0) {
    if (open_) {
      for (size_t i = 0; i < count_; ++i) ran += Release(static_cast<uint8_t>(i));
      continue;
    }
    bool by_reservation = false;
    ClassState* next = Choose(now, &by_reservation);
    if (next == nullptr) break;
    Serve(*next, now, by_reservation);
    ++ran;
  }
  return ran;
}

size_t ClassScheduler::Pump() { return waiting_ == 0 ? 0 : PumpAt(now_us_()); }

size_t ClassScheduler::Release(uint8_t qos_class) {
  ClassState& state = StateOf(qos_class);
  // Not what enters meanwhile: that could go on for ever. What runs may enter, and thereby let out what was counted here.
  size_t ran = 0;
  for (size_t left = state.waiting; left > 0 && state.head != nullptr; --left, ++ran) {
    QosItem* item = Pop(state);
    item->run(item);
  }
  return ran;
}

uint64_t ClassScheduler::NextTimerUs() const {
  constexpr uint64_t kNever = std::numeric_limits<uint64_t>::max();
  if (waiting_ == 0) return kNever;
  const uint64_t now_us = now_us_();
  // What waits for a place is woken by what leaves one.
  if (in_flight_ >= kWindowUnits && Competes(now_us)) return kNever;
  const auto now = static_cast<double>(now_us);
  double soonest = std::numeric_limits<double>::max();
  for (size_t i = 0; i < count_; ++i) {
    const ClassState& state = classes_[i];
    if (state.head == nullptr || state.plan.limit <= 0) continue;
    soonest = std::min(soonest, state.limit_tag - BurstUs(state.plan, state.plan.limit) - now);
  }
  if (soonest == std::numeric_limits<double>::max()) return kNever;
  return soonest < 1 ? 1 : static_cast<uint64_t>(std::ceil(soonest));
}

}  // namespace pando
