#include "digest/cpu.h"

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace pando::digest {

const CpuFeatures& CpuFeatures::Get() {
  static const CpuFeatures features = [] {
    CpuFeatures found;
#if defined(__x86_64__)
    unsigned eax = 0;
    unsigned ebx = 0;
    unsigned ecx = 0;
    unsigned edx = 0;
    if (__get_cpuid(1, &eax, &ebx, &ecx, &edx) == 0) return found;
    const bool sse41 = (ecx & bit_SSE4_1) != 0 && (ecx & bit_SSSE3) != 0;
    found.carryless_multiply = sse41 && (ecx & bit_PCLMUL) != 0;
    found.aes = (ecx & bit_AES) != 0 && (ecx & bit_PCLMUL) != 0;
    if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) == 0) return found;
    constexpr unsigned kShaBit = 1U << 29U;
    found.sha = sse41 && (ebx & kShaBit) != 0;
    // These ask the compiler's run time, which also looks at what the system saves on a switch of threads (XCR0).
    __builtin_cpu_init();
    found.avx2 = __builtin_cpu_supports("avx2") != 0;
    found.avx512 = found.avx2 && __builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("avx512vl") != 0;
#elif defined(__aarch64__)
    found.aes = (::getauxval(AT_HWCAP) & HWCAP_AES) != 0;
#endif
    return found;
  }();
  return features;
}

}  // namespace pando::digest
