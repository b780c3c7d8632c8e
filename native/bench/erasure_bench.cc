// Speed of erasure codes by every kernel that this machine has, side by side in one run: bytes of data that go in, per second.
// Fragments of 512 KiB, as the cluster stores them. Medians of 15 rounds, interleaved.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <vector>

#include "pando/erasure.h"

namespace {

using pando::ErasureCode;

constexpr size_t kFragmentBytes = size_t{512} << 10U;
constexpr int kRounds = 15;

double Median(std::vector<double>& values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

struct Row {
  ErasureCode::Kernel kernel;
  const char* name;
  std::vector<double> encode;
  std::vector<double> decode;
};

}  // namespace

int main() {
  struct Shape {
    uint32_t data;
    uint32_t parity;
  };
  std::printf("%-6s %-8s %14s %8s %22s %8s\n", "code", "kernel", "encode GiB/s", "ratio", "one lost decode GiB/s",
              "ratio");
  for (const auto [data, parity] : {Shape{4, 2}, Shape{8, 3}, Shape{2, 1}, Shape{16, 8}}) {
    const auto code = ErasureCode::Create(data, parity).value();
    std::vector<std::vector<std::byte>> stripe(data + parity,
                                               std::vector<std::byte>(kFragmentBytes, std::byte{0x5A}));
    std::vector<ErasureCode::Source> sources;
    std::vector<ErasureCode::Target> targets;
    for (uint32_t i = 0; i < data; ++i) sources.push_back({i, stripe[i]});
    for (uint32_t i = data; i < data + parity; ++i) targets.push_back({i, stripe[i]});
    std::vector<ErasureCode::Source> rest(sources.begin() + 1, sources.end());
    rest.push_back({data, stripe[data]});
    std::vector<std::byte> lost(kFragmentBytes);
    const std::vector<ErasureCode::Target> first = {{0, lost}};
    std::vector<Row> rows;
    for (const auto& [kernel, name] : {std::pair{ErasureCode::Kernel::kIsal, "isa-l"},
                                       std::pair{ErasureCode::Kernel::kAvx2, "avx2"},
                                       std::pair{ErasureCode::Kernel::kSsse3, "ssse3"},
                                       std::pair{ErasureCode::Kernel::kScalar, "scalar"}}) {
      if (ErasureCode::Has(kernel)) rows.push_back({kernel, name, {}, {}});
    }
    const double bytes = static_cast<double>(data * kFragmentBytes) / (1U << 30U);
    const auto rate = [&](auto& from, auto& to, ErasureCode::Kernel kernel) {
      const auto start = std::chrono::steady_clock::now();
      if (!code.Compute(from, to, kernel).ok()) return 0.0;
      const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
      return bytes / took.count();
    };
    for (int round = 0; round < kRounds; ++round) {
      for (Row& row : rows) {
        row.encode.push_back(rate(sources, targets, row.kernel));
        row.decode.push_back(rate(rest, first, row.kernel));
      }
    }
    const double encode = Median(rows.front().encode);
    const double decode = Median(rows.front().decode);
    for (Row& row : rows) {
      std::printf("%2u+%-3u %-8s %14.2f %7.2fx %22.2f %7.2fx\n", data, parity, row.name, Median(row.encode),
                  Median(row.encode) / encode, Median(row.decode), Median(row.decode) / decode);
    }
  }
}
