#ifndef PANDO_NAPI_BENCH_H_
#define PANDO_NAPI_BENCH_H_

#include <node_api.h>

namespace pando::napi {

/// For test/bench only: benchThreadsafeCalls(count, callback) makes `count` completions from a thread through a
/// threadsafe function each, which is what the rings replace; the baseline of the bridge's benchmark.
napi_value BenchThreadsafeCalls(napi_env env, napi_callback_info info);

}  // namespace pando::napi

#endif  // PANDO_NAPI_BENCH_H_
