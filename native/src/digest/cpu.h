#ifndef PANDO_DIGEST_CPU_H_
#define PANDO_DIGEST_CPU_H_

namespace pando::digest {

/// What the machine has. Tests clear the fields to run the portable kernels on any machine.
struct CpuFeatures {
  bool carryless_multiply = false;  // PCLMULQDQ and SSE4.1
  bool sha = false;                 // SHA-NI and SSE4.1

  static const CpuFeatures& Get();
};

}  // namespace pando::digest

#endif  // PANDO_DIGEST_CPU_H_
