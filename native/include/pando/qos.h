// Classes of service in the data plane: the numbers of a plan, and what a request costs.
#ifndef PANDO_QOS_H_
#define PANDO_QOS_H_

#include <cstddef>
#include <cstdint>

namespace pando {

inline constexpr size_t kMostQosClasses = 64;
/// Position of `background` among the classes that always exist (builtinClasses, core/contract/qos.ts): collection and scrub.
inline constexpr uint8_t kBackgroundClass = 4;

/// What one class gets (PlannedClass, core/contract/policy.ts). Rates are cost units a second.
struct ClassPlan {
  double weight = 1;       // share of what reservations leave; above 0
  double reservation = 0;  // gets so much in any case; 0 = none
  double limit = 0;        // never gets more; 0 = no limit
  double burst = 0;        // units at once after idleness; 0 = what limit or reservation gives in 100 ms
};

/// Weight above 0, the others finite and not negative.
[[nodiscard]] constexpr bool IsUsablePlan(const ClassPlan& plan) {
  const auto finite = [](double value) { return value >= 0 && value <= 1e15; };  // false for NaN
  return plan.weight > 0 && finite(plan.weight) && finite(plan.reservation) && finite(plan.limit) &&
         finite(plan.burst);
}

/// As costUnits in core/contract/qos.ts: 1 for at most 4 KiB, and 1 for every further 64 KiB begun.
[[nodiscard]] constexpr double CostUnits(uint64_t bytes) {
  constexpr uint64_t kSmall = 4096;
  constexpr uint64_t kStep = 65536;
  return bytes <= kSmall ? 1.0 : 1.0 + static_cast<double>((bytes - kSmall + kStep - 1) / kStep);
}

}  // namespace pando

#endif  // PANDO_QOS_H_
