#ifndef PANDO_CRC32C_H_
#define PANDO_CRC32C_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "pando/result.h"

namespace pando {

/// CRC-32C (Castagnoli, RFC 3720 B.4). `crc` continues an earlier result: Crc32c(b, Crc32c(a)) ==
/// Crc32c(a + b). Uses the SSE4.2 or ARMv8 instruction when the machine has it.
[[nodiscard]] PANDO_EXPORT uint32_t Crc32c(std::span<const std::byte> data, uint32_t crc = 0);

/// The CRC of a + b from those of a and b and the length of b, without touching the bytes.
[[nodiscard]] PANDO_EXPORT uint32_t Crc32cCombine(uint32_t crc_a, uint32_t crc_b,
                                                  uint64_t length_b);

}  // namespace pando

#endif  // PANDO_CRC32C_H_
