#ifndef PANDO_DIGEST_CPU_H_
#define PANDO_DIGEST_CPU_H_

namespace pando::digest {

/// What the machine has. Tests clear the fields to run the portable kernels on any machine.
struct CpuFeatures {
  bool carryless_multiply = false;  // PCLMULQDQ and SSE4.1
  bool sha = false;                 // SHA-NI and SSE4.1
  bool aes = false;                 // AES-NI and PCLMULQDQ, or those of ARMv8
  bool avx2 = false;                // and the system saves its registers
  bool avx512 = false;              // F and VL, likewise

  static const CpuFeatures& Get();
};

}  // namespace pando::digest

#endif  // PANDO_DIGEST_CPU_H_
