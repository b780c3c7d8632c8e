#include "pando/crc32c.h"

#include <array>
#include <cstring>

#if defined(__x86_64__)
#include <nmmintrin.h>
#elif defined(__aarch64__) && defined(__ARM_FEATURE_CRC32)
#include <arm_acle.h>
#endif

namespace pando {
namespace {

constexpr uint32_t kPolynomial = 0x82F63B78;  // reflected

// Multiplies two polynomials modulo the CRC's; both reflected, so bit 31 is x^0.
constexpr uint32_t Multiply(uint32_t a, uint32_t b) {
  uint32_t product = 0;
  for (uint32_t bit = 1U << 31U; bit != 0; bit >>= 1U) {
    if ((a & bit) != 0) product ^= b;
    b = (b & 1U) != 0 ? (b >> 1U) ^ kPolynomial : b >> 1U;
  }
  return product;
}

// x^(8 * 2^n) mod P for n in 0..63.
constexpr std::array<uint32_t, 64> MakePowers() {
  std::array<uint32_t, 64> powers{};
  uint32_t power = 1U << 23U;  // x^8
  for (auto& entry : powers) {
    entry = power;
    power = Multiply(power, power);
  }
  return powers;
}
constexpr std::array<uint32_t, 64> kPowers = MakePowers();

// x^(8 * bytes) mod P.
constexpr uint32_t ShiftFactor(uint64_t bytes) {
  uint32_t factor = 1U << 31U;  // x^0
  for (size_t n = 0; bytes != 0; ++n, bytes >>= 1U) {
    if ((bytes & 1U) != 0) factor = Multiply(factor, kPowers[n]);
  }
  return factor;
}

constexpr std::array<std::array<uint32_t, 256>, 8> MakeTables() {
  std::array<std::array<uint32_t, 256>, 8> tables{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t crc = i;
    for (int bit = 0; bit < 8; ++bit) crc = (crc & 1U) != 0 ? (crc >> 1U) ^ kPolynomial : crc >> 1U;
    tables[0][i] = crc;
  }
  for (size_t t = 1; t < 8; ++t) {
    for (size_t i = 0; i < 256; ++i) {
      const uint32_t previous = tables[t - 1][i];
      tables[t][i] = (previous >> 8U) ^ tables[0][previous & 0xFFU];
    }
  }
  return tables;
}
constexpr auto kTables = MakeTables();

uint64_t Load64(const std::byte* p) {
  uint64_t value = 0;
  std::memcpy(&value, p, 8);
  return value;
}

// Works on the inverted register. Eight bytes a step.
uint32_t Portable(uint32_t crc, const std::byte* p, size_t n) {
  while (n >= 8) {
    const uint64_t x = Load64(p) ^ crc;
    crc = 0;
    for (size_t i = 0; i < 8; ++i) crc ^= kTables[7 - i][(x >> (8 * i)) & 0xFFU];
    p += 8;
    n -= 8;
  }
  for (; n != 0; --n, ++p) {
    crc = (crc >> 8U) ^ kTables[0][(crc ^ static_cast<uint32_t>(*p)) & 0xFFU];
  }
  return crc;
}

#if defined(__x86_64__)
// The instruction has a latency of three cycles and a throughput of one, so three lanes run at once
// and are joined by multiplying with a constant power of x. Table-driven, because the factor is
// fixed.
constexpr size_t kLane = 1360;  // bytes a lane; three lanes make 4080, one page less a tail

constexpr std::array<std::array<uint32_t, 256>, 4> MakeShift(uint64_t bytes) {
  std::array<std::array<uint32_t, 256>, 4> tables{};
  const uint32_t factor = ShiftFactor(bytes);
  for (uint32_t t = 0; t < 4; ++t) {
    for (uint32_t i = 0; i < 256; ++i) tables[t][i] = Multiply(factor, i << (8 * t));
  }
  return tables;
}
const std::array<std::array<uint32_t, 256>, 4> kShiftOne = MakeShift(kLane);
const std::array<std::array<uint32_t, 256>, 4> kShiftTwo = MakeShift(2 * kLane);

uint32_t Shift(const std::array<std::array<uint32_t, 256>, 4>& t, uint32_t crc) {
  return t[0][crc & 0xFFU] ^ t[1][(crc >> 8U) & 0xFFU] ^ t[2][(crc >> 16U) & 0xFFU] ^
         t[3][crc >> 24U];
}

__attribute__((target("sse4.2"))) uint32_t Hardware(uint32_t initial, const std::byte* p,
                                                    size_t n) {
  uint64_t crc = initial;
  while (n >= 3 * kLane) {
    uint64_t second = 0;
    uint64_t third = 0;
    for (size_t i = 0; i < kLane; i += 8) {
      crc = _mm_crc32_u64(crc, Load64(p + i));
      second = _mm_crc32_u64(second, Load64(p + kLane + i));
      third = _mm_crc32_u64(third, Load64(p + 2 * kLane + i));
    }
    crc = Shift(kShiftTwo, static_cast<uint32_t>(crc)) ^
          Shift(kShiftOne, static_cast<uint32_t>(second)) ^ static_cast<uint32_t>(third);
    p += 3 * kLane;
    n -= 3 * kLane;
  }
  for (; n >= 8; n -= 8, p += 8) crc = _mm_crc32_u64(crc, Load64(p));
  auto narrow = static_cast<uint32_t>(crc);
  for (; n != 0; --n, ++p) narrow = _mm_crc32_u8(narrow, static_cast<uint8_t>(*p));
  return narrow;
}

const bool kHaveHardware = __builtin_cpu_supports("sse4.2") != 0;
#endif

}  // namespace

uint32_t Crc32c(std::span<const std::byte> data, uint32_t crc) {
  const uint32_t inverted = ~crc;
#if defined(__x86_64__)
  if (kHaveHardware) return ~Hardware(inverted, data.data(), data.size());
#elif defined(__aarch64__) && defined(__ARM_FEATURE_CRC32)
  uint32_t value = inverted;
  const std::byte* p = data.data();
  size_t n = data.size();
  for (; n >= 8; n -= 8, p += 8) value = __crc32cd(value, Load64(p));
  for (; n != 0; --n, ++p) value = __crc32cb(value, static_cast<uint8_t>(*p));
  return ~value;
#endif
  return ~Portable(inverted, data.data(), data.size());
}

uint32_t Crc32cCombine(uint32_t crc_a, uint32_t crc_b, uint64_t length_b) {
  return Multiply(ShiftFactor(length_b), crc_a) ^ crc_b;
}

}  // namespace pando
