#include <cstddef>
#include <cstdint>

#include "rpc_fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  pando::rpc::FuzzRpc(std::as_bytes(std::span(data, size)));
  return 0;
}
