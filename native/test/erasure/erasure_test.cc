#include "pando/erasure.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <random>
#include <vector>

#include "erasure_fuzz.h"

namespace pando {
namespace {

using Kernel = ErasureCode::Kernel;
using Fragments = std::vector<std::vector<std::byte>>;

constexpr Kernel kKernels[] = {Kernel::kIsal, Kernel::kAvx2, Kernel::kSsse3, Kernel::kScalar};

Fragments RandomStripe(const ErasureCode& code, uint32_t data, uint32_t parity, size_t length, std::mt19937& random,
                       Kernel kernel = Kernel::kBest) {
  Fragments stripe(data + parity, std::vector<std::byte>(length));
  std::vector<ErasureCode::Source> sources;
  std::vector<ErasureCode::Target> targets;
  for (uint32_t i = 0; i < data + parity; ++i) {
    if (i >= data) {
      targets.push_back({i, stripe[i]});
      continue;
    }
    std::generate(stripe[i].begin(), stripe[i].end(), [&] { return static_cast<std::byte>(random()); });
    sources.push_back({i, stripe[i]});
  }
  EXPECT_TRUE(code.Compute(sources, targets, kernel).ok());
  return stripe;
}

/// The fragments in the mask, computed from `data` of the others.
Fragments Rebuilt(const ErasureCode& code, uint32_t data, const Fragments& stripe, uint32_t lost, Kernel kernel) {
  Fragments results(stripe.size());
  std::vector<ErasureCode::Source> sources;
  std::vector<ErasureCode::Target> targets;
  for (uint32_t i = 0; i < stripe.size(); ++i) {
    if ((lost >> i & 1U) != 0) {
      results[i].assign(stripe[i].size(), std::byte{0xEE});
      targets.push_back({i, results[i]});
    } else if (sources.size() < data) {
      sources.push_back({i, stripe[i]});
    }
  }
  EXPECT_TRUE(code.Compute(sources, targets, kernel).ok());
  return results;
}

TEST(ErasureCode, AnyLossOfUpToMFragmentsIsMadeGoodBySmallCodesAllOfThem) {
  std::mt19937 random(1);
  for (uint32_t data = 1; data <= 6; ++data) {
    for (uint32_t parity = 1; parity <= 3; ++parity) {
      const auto code = ErasureCode::Create(data, parity).value();
      const Fragments stripe = RandomStripe(code, data, parity, 97, random);
      for (uint32_t lost = 1; lost < 1U << (data + parity); ++lost) {
        if (static_cast<uint32_t>(std::popcount(lost)) > parity) continue;
        const Fragments rebuilt = Rebuilt(code, data, stripe, lost, Kernel::kBest);
        for (uint32_t i = 0; i < stripe.size(); ++i) {
          if ((lost >> i & 1U) != 0) {
            ASSERT_EQ(rebuilt[i], stripe[i]) << data << "+" << parity << " lost " << lost;
          }
        }
      }
    }
  }
}

TEST(ErasureCode, AllKernelsComputeTheSameBytesForAllCodes) {
  std::mt19937 random(2);
  for (uint32_t data = 1; data <= kMostDataFragments; ++data) {
    for (uint32_t parity = 1; parity <= kMostParityFragments; ++parity) {
      const auto code = ErasureCode::Create(data, parity).value();
      const size_t length = 1 + random() % 700;
      const Fragments stripe = RandomStripe(code, data, parity, length, random, Kernel::kScalar);
      uint32_t lost = 0;
      while (static_cast<uint32_t>(std::popcount(lost)) < parity) lost |= 1U << random() % (data + parity);
      for (const Kernel kernel : kKernels) {
        if (!ErasureCode::Has(kernel)) continue;
        const Fragments rebuilt = Rebuilt(code, data, stripe, lost, kernel);
        for (uint32_t i = 0; i < stripe.size(); ++i) {
          if ((lost >> i & 1U) != 0) {
            ASSERT_EQ(rebuilt[i], stripe[i]) << data << "+" << parity << " kernel " << static_cast<int>(kernel);
          }
        }
      }
    }
  }
}

// The matrix is on disks. These numbers were computed by hand: the parity of 4+2 over the data 1, 2, 3, 4 is the sum of
// i times the inverse of (4 xor i) and of (5 xor i).
TEST(ErasureCode, TheBytesOfParityAreFixed) {
  const auto code = ErasureCode::Create(4, 2).value();
  const std::byte data[] = {std::byte{1}, std::byte{2}, std::byte{3}, std::byte{4}};
  std::byte parity[2];
  std::vector<ErasureCode::Source> sources;
  for (uint32_t i = 0; i < 4; ++i) sources.push_back({i, std::span(data).subspan(i, 1)});
  const ErasureCode::Target targets[] = {{4, std::span(parity).first(1)}, {5, std::span(parity).last(1)}};
  ASSERT_TRUE(code.Compute(sources, targets).ok());
  EXPECT_EQ(parity[0], std::byte{0x48});
  EXPECT_EQ(parity[1], std::byte{0x0F});
}

TEST(ErasureCode, FragmentsThatEndEarlyGoOnWithZeros) {
  std::mt19937 random(3);
  const auto code = ErasureCode::Create(4, 2).value();
  Fragments stripe(6, std::vector<std::byte>(1000));
  const size_t lengths[] = {1000, 1000, 300, 0};
  std::vector<ErasureCode::Source> whole;
  std::vector<ErasureCode::Source> shortened;
  for (uint32_t i = 0; i < 4; ++i) {
    std::generate_n(stripe[i].begin(), lengths[i], [&] { return static_cast<std::byte>(random()); });
    whole.push_back({i, stripe[i]});
    shortened.push_back({i, std::span<const std::byte>(stripe[i]).first(lengths[i])});
  }
  ASSERT_TRUE(code.Compute(whole, std::vector<ErasureCode::Target>{{4, stripe[4]}, {5, stripe[5]}}).ok());
  for (const Kernel kernel : kKernels) {
    if (!ErasureCode::Has(kernel)) continue;
    std::vector<std::byte> parity(1000);
    ASSERT_TRUE(code.Compute(shortened, std::vector<ErasureCode::Target>{{5, parity}}, kernel).ok());
    EXPECT_EQ(parity, stripe[5]);
    std::vector<std::byte> lost(1000);
    const std::vector<ErasureCode::Source> rest = {shortened[1], shortened[2], shortened[3], {4, stripe[4]}};
    ASSERT_TRUE(code.Compute(rest, std::vector<ErasureCode::Target>{{0, lost}}, kernel).ok());
    EXPECT_EQ(lost, stripe[0]);
  }
}

TEST(ErasureCode, ImpossibleRequestsAreRefusedAndNothingIsWritten) {
  EXPECT_FALSE(ErasureCode::Create(0, 2).ok());
  EXPECT_FALSE(ErasureCode::Create(17, 2).ok());
  EXPECT_FALSE(ErasureCode::Create(4, 0).ok());
  EXPECT_FALSE(ErasureCode::Create(4, 9).ok());
  const auto code = ErasureCode::Create(2, 2).value();
  std::vector<std::byte> bytes(8);
  std::vector<std::byte> longer(9);
  std::vector<std::byte> target(8, std::byte{7});
  const auto refused = [&](std::vector<ErasureCode::Source> sources, std::vector<ErasureCode::Target> targets) {
    const Status status = code.Compute(sources, targets);
    EXPECT_EQ(status.code(), ErrorCode::kInvalidArgument);
    EXPECT_EQ(target, std::vector<std::byte>(8, std::byte{7}));
  };
  refused({{0, bytes}}, {{1, target}});
  refused({{0, bytes}, {0, bytes}}, {{1, target}});
  refused({{0, bytes}, {1, bytes}}, {{1, target}});
  refused({{0, bytes}, {4, bytes}}, {{1, target}});
  refused({{0, bytes}, {2, longer}}, {{1, target}});
  refused({{0, bytes}, {2, bytes}}, {});
  refused({{0, bytes}, {2, bytes}}, {{1, target}, {3, longer}});
}

TEST(ErasureCode, RandomRequestsAreAnsweredRightOrRefused) {
  std::mt19937 random(4);
  for (int round = 0; round < 3000; ++round) {
    std::vector<uint8_t> input(random() % 2000);
    std::generate(input.begin(), input.end(), [&] { return static_cast<uint8_t>(random()); });
    FuzzErasure(input);
  }
}

}  // namespace
}  // namespace pando
