#include <cstddef>
#include <cstdint>

#include "erasure_fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  pando::FuzzErasure(std::span(data, size));
  return 0;
}
