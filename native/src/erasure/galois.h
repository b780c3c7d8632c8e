// Arithmetic of GF(2^8) modulo x^8 + x^4 + x^3 + x^2 + 1, and the tables by which many bytes are multiplied at once.
#ifndef PANDO_ERASURE_GALOIS_H_
#define PANDO_ERASURE_GALOIS_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace pando::erasure {

/// Products of one factor with all low and all high halves of a byte; the layout that ISA-L wants, too.
inline constexpr size_t kTableBytes = 32;

constexpr uint8_t Multiply(uint8_t a, uint8_t b) {
  unsigned product = 0;
  unsigned shifted = a;
  for (unsigned rest = b; rest != 0; rest >>= 1U) {
    if ((rest & 1U) != 0) product ^= shifted;
    shifted = (shifted << 1U) ^ ((shifted & 0x80U) != 0 ? 0x11DU : 0U);
  }
  return static_cast<uint8_t>(product);
}

/// REQUIRES: a is not 0. The group has 255 elements, so a^254 is the inverse.
constexpr uint8_t Inverse(uint8_t a) {
  uint8_t result = 1;
  for (int i = 0; i < 254; ++i) result = Multiply(result, a);
  return result;
}

inline constexpr std::array<uint8_t, 256> kInverses = [] {
  std::array<uint8_t, 256> inverses{};
  for (unsigned a = 1; a < 256; ++a) {
    // Each pair once: the compiler counts steps.
    if (inverses[a] != 0) continue;
    const uint8_t inverse = Inverse(static_cast<uint8_t>(a));
    inverses[a] = inverse;
    inverses[inverse] = static_cast<uint8_t>(a);
  }
  return inverses;
}();

inline void FillTable(uint8_t factor, uint8_t* table) {
  for (unsigned half = 0; half < 16; ++half) {
    table[half] = Multiply(factor, static_cast<uint8_t>(half));
    table[16 + half] = Multiply(factor, static_cast<uint8_t>(half << 4U));
  }
}

/// targets[j][at] = sum over i of factor[j][i] * sources[i][at], for at in [0, length). `tables` has kTableBytes for each factor,
/// row after row.
using DotProduct = void (*)(const uint8_t* tables, std::span<const uint8_t* const> sources,
                            std::span<uint8_t* const> targets, size_t length);

void DotProductScalar(const uint8_t* tables, std::span<const uint8_t* const> sources,
                      std::span<uint8_t* const> targets, size_t length);
/// REQUIRES: the machine has the instructions. Both are the scalar one on other architectures.
void DotProductSsse3(const uint8_t* tables, std::span<const uint8_t* const> sources,
                     std::span<uint8_t* const> targets, size_t length);
void DotProductAvx2(const uint8_t* tables, std::span<const uint8_t* const> sources,
                    std::span<uint8_t* const> targets, size_t length);

}  // namespace pando::erasure

#endif  // PANDO_ERASURE_GALOIS_H_
