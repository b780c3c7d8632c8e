// The fuzz target's body over seeded inputs: short in every run; fuzz/ runs it without an end.
#include <gtest/gtest.h>

#include <random>

#include "../../fuzz/rpc_fuzz.h"

namespace pando::rpc {
namespace {

void FuzzWith(uint64_t seed, int count) {
  std::mt19937_64 random(seed);
  for (int i = 0; i < count; ++i) {
    std::vector<std::byte> input(2 + random() % 1500);
    for (std::byte& byte : input) byte = static_cast<std::byte>(random());
    // Whole frames come up more often with most of the header's fields small.
    for (size_t at = 2; at + 1 + kHeaderBytes <= input.size(); at += 1 + kHeaderBytes) {
      if (random() % 4 == 0) continue;
      input[at] |= std::byte{1};
      for (const size_t high : {53U, 54U, 55U, 49U, 50U, 51U}) {
        if (random() % 3 != 0) input[at + 1 + high] = std::byte{0};
      }
    }
    FuzzRpc(input);
  }
}

TEST(SessionFuzz, NoInputBreaksWhatASessionPromises) { FuzzWith(1, 20000); }

}  // namespace
}  // namespace pando::rpc
