#include "bench.h"

#include <cstdint>
#include <thread>

namespace pando::napi {

napi_value BenchThreadsafeCalls(napi_env env, napi_callback_info info) {
  size_t argc = 2;
  napi_value argv[2] = {};
  uint32_t count = 0;
  napi_value name = nullptr;
  napi_threadsafe_function function = nullptr;
  if (napi_get_cb_info(env, info, &argc, argv, nullptr, nullptr) != napi_ok ||
      napi_get_value_uint32(env, argv[0], &count) != napi_ok ||
      napi_create_string_utf8(env, "bench", NAPI_AUTO_LENGTH, &name) != napi_ok ||
      napi_create_threadsafe_function(
          env, argv[1], nullptr, name, 4096, 1, nullptr, nullptr, nullptr,
          [](napi_env call_env, napi_value callback, void*, void* data) {
            if (call_env == nullptr) return;
            napi_value receiver = nullptr;
            napi_value token = nullptr;
            napi_get_undefined(call_env, &receiver);
            napi_create_uint32(call_env, static_cast<uint32_t>(reinterpret_cast<uintptr_t>(data)), &token);
            napi_call_function(call_env, receiver, callback, 1, &token, nullptr);
          },
          &function) != napi_ok) {
    napi_throw_type_error(env, "INVALID_ARGUMENT", "benchThreadsafeCalls(count, callback)");
    return nullptr;
  }
  std::thread([function, count] {
    for (uint32_t i = 0; i < count; ++i) {
      void* data = reinterpret_cast<void*>(static_cast<uintptr_t>(i));
      if (napi_call_threadsafe_function(function, data, napi_tsfn_blocking) != napi_ok) break;
    }
    napi_release_threadsafe_function(function, napi_tsfn_release);
  }).detach();
  return nullptr;
}

}  // namespace pando::napi
