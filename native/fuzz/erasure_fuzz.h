// Arbitrary requests to the erasure code: it either refuses or computes what decoding by hand would give, whatever was asked.
// Used by the libFuzzer target and, with random bytes, by a GoogleTest.
#ifndef PANDO_FUZZ_ERASURE_FUZZ_H_
#define PANDO_FUZZ_ERASURE_FUZZ_H_

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "pando/erasure.h"

namespace pando {

/// The bytes tell k, m, which fragments are sources and which targets (also impossible ones), their lengths, and the data.
inline void FuzzErasure(std::span<const uint8_t> input) {
  size_t at = 0;
  const auto next = [&]() -> uint8_t { return at < input.size() ? input[at++] : 0; };
  const uint32_t data = next() % 20U;
  const uint32_t parity = next() % 10U;
  const auto created = ErasureCode::Create(data, parity);
  const bool possible = data >= 1 && data <= kMostDataFragments && parity >= 1 && parity <= kMostParityFragments;
  PANDO_ASSERT(created.ok() == possible);
  if (!created.ok()) return;
  const ErasureCode& code = created.value();
  const size_t length = next();
  const uint32_t all = data + parity;

  // A sound stripe.
  std::vector<std::vector<std::byte>> stripe(all, std::vector<std::byte>(length));
  for (uint32_t i = 0; i < data; ++i) {
    for (auto& byte : stripe[i]) byte = static_cast<std::byte>(next());
  }
  std::vector<ErasureCode::Source> sources;
  std::vector<ErasureCode::Target> targets;
  for (uint32_t i = 0; i < data; ++i) sources.push_back({i, stripe[i]});
  for (uint32_t i = data; i < all; ++i) targets.push_back({i, stripe[i]});
  PANDO_ASSERT(code.Compute(sources, targets).ok());

  // Whatever is asked of it.
  sources.clear();
  targets.clear();
  bool sound = true;
  const uint32_t source_count = next() % 4U == 0 ? next() % 30U : data;
  for (uint32_t i = 0; i < source_count; ++i) {
    const uint32_t fragment = next() % (all + 1U);
    const size_t shortened = next() % 8U == 0 ? next() : 0;
    std::span<const std::byte> bytes;
    if (fragment < all) bytes = std::span(stripe[fragment]);
    // What is cut off must have been zeros for the answer to be the stripe's.
    const size_t kept = bytes.size() - std::min(bytes.size(), shortened);
    sound = sound && std::all_of(bytes.begin() + static_cast<std::ptrdiff_t>(kept), bytes.end(),
                                 [](std::byte byte) { return byte == std::byte{0}; });
    sources.push_back({fragment, bytes.first(kept)});
  }
  const uint32_t target_count = next() % 4U;
  std::vector<std::vector<std::byte>> results(target_count);
  for (auto& result : results) {
    result.assign(next() % 8U == 0 ? next() : length, std::byte{0xA5});
    targets.push_back({next() % (all + 1U), result});
  }
  const auto kernel = static_cast<ErasureCode::Kernel>(next() % 5U);
  const Status status = code.Compute(sources, targets, kernel);
  if (!status.ok()) {
    for (const auto& result : results) {
      PANDO_ASSERT(std::all_of(result.begin(), result.end(), [](std::byte byte) { return byte == std::byte{0xA5}; }));
    }
    return;
  }
  for (size_t j = 0; sound && j < results.size(); ++j) {
    if (results[j].size() == length) PANDO_ASSERT(results[j] == stripe[targets[j].fragment]);
  }
}

}  // namespace pando

#endif  // PANDO_FUZZ_ERASURE_FUZZ_H_
