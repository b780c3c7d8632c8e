// Speed of each digest alone and of the usual sets, over 1 MiB that is in the cache, and of MD5 of several bodies side by
// side against one after another. Medians of 15 rounds, interleaved where two are compared.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>
#include <vector>

#include "pando/digest.h"

namespace {

double Median(std::vector<double>& values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

}  // namespace

int main() {
  constexpr size_t kBytes = size_t{1} << 20U;
  const std::vector<std::byte> body(kBytes, std::byte{0x5A});
  struct Row {
    const char* name;
    uint32_t algorithms;
  };
  constexpr Row kRows[] = {
      {"md5", pando::kDigestMd5},
      {"sha1", pando::kDigestSha1},
      {"sha256", pando::kDigestSha256},
      {"crc32", pando::kDigestCrc32},
      {"crc32c", pando::kDigestCrc32c},
      {"crc64nvme", pando::kDigestCrc64Nvme},
      {"md5+sha256", pando::kDigestMd5 | pando::kDigestSha256},
      {"md5+crc64nvme", pando::kDigestMd5 | pando::kDigestCrc64Nvme},
  };
  std::printf("%-16s %12s\n", "digest", "MB/s");
  for (const Row& row : kRows) {
    std::vector<double> rates;
    for (int round = 0; round < 15; ++round) {
      const auto start = std::chrono::steady_clock::now();
      pando::BodyDigest digest(row.algorithms);
      for (int i = 0; i < 16; ++i) digest.Update(body);
      pando::DigestResults results;
      digest.Finish(&results);
      const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
      rates.push_back(16.0 * kBytes / took.count() / 1e6);
    }
    std::printf("%-16s %12.0f\n", row.name, Median(rates));
  }

  std::printf("\n%-16s %12s %12s %8s\n", "md5, bodies", "in turn MB/s", "together", "ratio");
  for (const size_t bodies : {1, 2, 4, 8}) {
    std::vector<double> rates[2];
    for (int round = 0; round < 30; ++round) {
      const bool together = round % 2 == 1;
      const auto start = std::chrono::steady_clock::now();
      std::vector<std::unique_ptr<pando::BodyDigest>> digests;
      std::vector<pando::DigestUpdate> updates;
      for (size_t i = 0; i < bodies; ++i) {
        digests.push_back(std::make_unique<pando::BodyDigest>(pando::kDigestMd5));
        updates.push_back({digests.back().get(), body});
      }
      for (int i = 0; i < 4; ++i) {
        if (together) pando::BodyDigest::UpdateTogether(updates);
        for (size_t at = 0; at < bodies && !together; ++at) digests[at]->Update(body);
      }
      pando::DigestResults results;
      for (auto& digest : digests) digest->Finish(&results);
      const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
      rates[round % 2].push_back(4.0 * static_cast<double>(bodies) * kBytes / took.count() / 1e6);
    }
    const double in_turn = Median(rates[0]);
    const double at_once = Median(rates[1]);
    std::printf("%-16zu %12.0f %12.0f %7.2fx\n", bodies, in_turn, at_once, at_once / in_turn);
  }
}
