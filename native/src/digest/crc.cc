#include "digest/crc.h"

#include <array>
#include <cstring>

#include "digest/cpu.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace pando::digest {
namespace {

// Both CRCs live in 64-bit reflected registers: bit i is the coefficient of x^(63 - i). A 32-bit CRC is the upper
// half of such a register, so one kernel does for both once its value is shifted down.
template <typename Word, Word kPolynomial>
struct Reflected {
  using Tables = std::array<std::array<Word, 256>, 8>;

  static constexpr Tables MakeTables() {
    Tables tables{};
    for (uint32_t byte = 0; byte < 256; ++byte) {
      Word value = byte;
      for (int bit = 0; bit < 8; ++bit) value = (value >> 1) ^ ((value & 1) != 0 ? kPolynomial : 0);
      tables[0][byte] = value;
    }
    for (size_t slice = 1; slice < 8; ++slice) {
      for (size_t byte = 0; byte < 256; ++byte) {
        const Word before = tables[slice - 1][byte];
        tables[slice][byte] = (before >> 8) ^ tables[0][before & 0xFF];
      }
    }
    return tables;
  }

  /// x^power mod P as a 64-bit reflected register.
  static constexpr uint64_t Power(int power) {
    constexpr int kBits = static_cast<int>(sizeof(Word) * 8);
    Word value = Word{1} << (kBits - 1);
    for (; power > 0; --power) value = (value >> 1) ^ ((value & 1) != 0 ? kPolynomial : 0);
    return static_cast<uint64_t>(value) << (64 - kBits);
  }

  static constexpr Tables kTables = MakeTables();

  /// Slicing by eight. `state` is the register itself, not inverted.
  static Word Table(const uint8_t* data, size_t length, Word state) {
    for (; length >= 8; length -= 8, data += 8) {
      uint64_t word = 0;
      std::memcpy(&word, data, 8);
      word ^= state;
      state = 0;
      for (size_t byte = 0; byte < 8; ++byte) state ^= kTables[7 - byte][(word >> (8 * byte)) & 0xFF];
    }
    for (; length > 0; --length, ++data) {
      state = (state >> 8) ^ kTables[0][(state ^ *data) & 0xFF];
    }
    return state;
  }

#if defined(__x86_64__)
  // Folding (Gopal and others, "Fast CRC Computation for Generic Polynomials Using PCLMULQDQ", Intel, 2009): a
  // 128-bit piece A, high half H and low half L, standing D bits before another piece, may be replaced there by
  // H * (x^(D + 64) mod P) + L * (x^D mod P). A carry-less product of reflected registers comes out one place
  // short, i.e. multiplied by x, hence the -1 in the powers.
  static __m128i Load(const void* at) { return _mm_loadu_si128(static_cast<const __m128i*>(at)); }

  __attribute__((target("pclmul,sse4.1"))) static __m128i Fold(__m128i piece, __m128i factors, __m128i onto) {
    const __m128i first = _mm_clmulepi64_si128(piece, factors, 0x00);
    const __m128i second = _mm_clmulepi64_si128(piece, factors, 0x11);
    return _mm_xor_si128(_mm_xor_si128(first, second), onto);
  }

  /// REQUIRES: length >= 64. Takes whole 16-byte pieces, returns the register; the tail is the caller's.
  __attribute__((target("pclmul,sse4.1"))) static Word FoldAll(const uint8_t* data, size_t length, Word state) {
    static constexpr uint64_t kFar[2] = {Power(512 + 64 - 1), Power(512 - 1)};
    static constexpr uint64_t kNear[2] = {Power(128 + 64 - 1), Power(128 - 1)};
    const __m128i far = Load(kFar);
    const __m128i near = Load(kNear);
    const __m128i start = _mm_cvtsi64_si128(static_cast<long long>(static_cast<uint64_t>(state)));
    __m128i a = _mm_xor_si128(Load(data), start);
    __m128i b = Load(data + 16);
    __m128i c = Load(data + 32);
    __m128i d = Load(data + 48);
    for (data += 64, length -= 64; length >= 64; data += 64, length -= 64) {
      a = Fold(a, far, Load(data));
      b = Fold(b, far, Load(data + 16));
      c = Fold(c, far, Load(data + 32));
      d = Fold(d, far, Load(data + 48));
    }
    a = Fold(Fold(Fold(a, near, b), near, c), near, d);
    for (; length >= 16; data += 16, length -= 16) a = Fold(a, near, Load(data));
    // What is left stands for all the bytes so far: a message of 16 bytes with the same remainder.
    uint8_t rest[16];
    _mm_storeu_si128(reinterpret_cast<__m128i*>(rest), a);
    return Table(data, length, Table(rest, 16, 0));
  }
#endif

  static Word Update(std::span<const std::byte> bytes, Word crc) {
    const auto* data = reinterpret_cast<const uint8_t*>(bytes.data());
    const Word state = static_cast<Word>(~crc);
#if defined(__x86_64__)
    if (bytes.size() >= 128 && CpuFeatures::Get().carryless_multiply) {
      return static_cast<Word>(~FoldAll(data, bytes.size(), state));
    }
#endif
    return static_cast<Word>(~Table(data, bytes.size(), state));
  }

  static Word Portable(std::span<const std::byte> bytes, Word crc) {
    const auto* data = reinterpret_cast<const uint8_t*>(bytes.data());
    return static_cast<Word>(~Table(data, bytes.size(), static_cast<Word>(~crc)));
  }
};

using Ieee = Reflected<uint32_t, 0xEDB88320U>;
using Nvme = Reflected<uint64_t, 0x9A6C9329AC4BC9B5ULL>;

}  // namespace

uint32_t Crc32(std::span<const std::byte> data, uint32_t crc) { return Ieee::Update(data, crc); }
uint64_t Crc64Nvme(std::span<const std::byte> data, uint64_t crc) { return Nvme::Update(data, crc); }
uint32_t Crc32Portable(std::span<const std::byte> data, uint32_t crc) { return Ieee::Portable(data, crc); }
uint64_t Crc64NvmePortable(std::span<const std::byte> data, uint64_t crc) { return Nvme::Portable(data, crc); }

}  // namespace pando::digest
