// CRC-32 (IEEE 802.3) and CRC-64/NVME. Both reflected, from all ones, inverted at the end; `crc` continues an
// earlier result. CRC-32C is in pando/crc32c.h.
#ifndef PANDO_DIGEST_CRC_H_
#define PANDO_DIGEST_CRC_H_

#include <cstddef>
#include <cstdint>
#include <span>

namespace pando::digest {

[[nodiscard]] uint32_t Crc32(std::span<const std::byte> data, uint32_t crc = 0);
[[nodiscard]] uint64_t Crc64Nvme(std::span<const std::byte> data, uint64_t crc = 0);

// The table kernels, for machines without PCLMULQDQ and for tests.
[[nodiscard]] uint32_t Crc32Portable(std::span<const std::byte> data, uint32_t crc = 0);
[[nodiscard]] uint64_t Crc64NvmePortable(std::span<const std::byte> data, uint64_t crc = 0);

}  // namespace pando::digest

#endif  // PANDO_DIGEST_CRC_H_
