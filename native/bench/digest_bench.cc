// Speed of each digest alone and of the usual sets, over 1 MiB that is in the cache. Medians of 15 rounds.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <vector>

#include "pando/digest.h"

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
    std::nth_element(rates.begin(), rates.begin() + 7, rates.end());
    std::printf("%-16s %12.0f\n", row.name, rates[7]);
  }
}
