// Classes of service in the data plane: the numbers of a plan, and what a request costs.
#ifndef PANDO_QOS_H_
#define PANDO_QOS_H_

#include <cstddef>
#include <cstdint>

namespace pando {

inline constexpr size_t kMostQosClasses = 64;
/// Position of `background` among the classes that always exist (builtinClasses, core/contract/qos.ts): collection and scrub.
inline constexpr uint8_t kBackgroundClass = 4;

/// Bounds of a plan (planBounds, core/contract/qos.ts). By a weight or a rate of next to nothing one request would be charged more time
/// than there is, and what was charged is still there when the plan is not.
inline constexpr double kLeastWeight = 0.001;
inline constexpr double kMostWeight = 1e6;
inline constexpr double kLeastRate = 0.001;
inline constexpr double kMostRate = 1e12;

/// What one class gets (PlannedClass, core/contract/policy.ts). Rates are cost units a second, 0 or within the bounds.
struct ClassPlan {
  double weight = 1;       // share of what reservations leave
  double reservation = 0;  // gets so much in any case; 0 = none
  double limit = 0;        // never gets more; 0 = no limit
  double burst = 0;        // units at once after idleness; 0 = what limit or reservation gives in 100 ms
};

/// All numbers are within the bounds.
[[nodiscard]] constexpr bool IsUsablePlan(const ClassPlan& plan) {
  // All false for NaN.
  const auto within = [](double value, double least, double most) {
    return value >= least && value <= most;
  };
  const auto rate = [&](double value) {
    return value == 0 || within(value, kLeastRate, kMostRate);
  };
  return within(plan.weight, kLeastWeight, kMostWeight) && rate(plan.reservation) &&
         rate(plan.limit) && within(plan.burst, 0, kMostRate);
}

/// As costUnits in core/contract/qos.ts: 1 for at most 4 KiB, and 1 for every further 64 KiB begun.
[[nodiscard]] constexpr double CostUnits(uint64_t bytes) {
  constexpr uint64_t kSmall = 4096;
  constexpr uint64_t kStep = 65536;
  return bytes <= kSmall ? 1.0 : 1.0 + static_cast<double>((bytes - kSmall + kStep - 1) / kStep);
}

}  // namespace pando

#endif  // PANDO_QOS_H_
