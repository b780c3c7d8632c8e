// The module's functions: arguments in, a Bridge method, a value out. Arguments come from native/*.ts only, which has
// checked them; a wrong type is a bug there and throws.
#include <node_api.h>

#include <climits>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "bench.h"
#include "bridge.h"
#include "pando/bdev.h"
#include "pando/data_plane.h"
#include "pando/digest.h"

#if defined(__GLIBC__)
#include <malloc.h>
#endif

namespace pando::napi {
namespace {

/// Reads arguments and properties; after the first mismatch everything is a no-op and `ok` is false.
class Reader {
 public:
  explicit Reader(napi_env env) : env_(env) {}

  [[nodiscard]] bool ok() const { return ok_; }

  napi_value Property(napi_value object, const char* name) {
    napi_value value = nullptr;
    Expect(napi_get_named_property(env_, object, name, &value));
    return value;
  }

  uint32_t U32(napi_value value) {
    uint32_t result = 0;
    Expect(napi_get_value_uint32(env_, value, &result));
    return result;
  }

  /// Byte counts: JavaScript numbers, exact to 2^53.
  uint64_t U64(napi_value value) {
    int64_t result = 0;
    Expect(napi_get_value_int64(env_, value, &result));
    if (result < 0) ok_ = false;
    return static_cast<uint64_t>(result);
  }

  std::string String(napi_value value) {
    size_t length = 0;
    Expect(napi_get_value_string_utf8(env_, value, nullptr, 0, &length));
    std::string result(ok_ ? length : 0, '\0');
    if (ok_) Expect(napi_get_value_string_utf8(env_, value, result.data(), length + 1, &length));
    return result;
  }

  bool Bool(napi_value value) {
    bool result = false;
    Expect(napi_get_value_bool(env_, value, &result));
    return result;
  }

  std::vector<napi_value> Elements(napi_value array) {
    uint32_t length = 0;
    Expect(napi_get_array_length(env_, array, &length));
    std::vector<napi_value> result(ok_ ? length : 0, nullptr);
    for (uint32_t i = 0; i < result.size(); ++i) Expect(napi_get_element(env_, array, i, &result[i]));
    return result;
  }

  napi_ref Reference(napi_value value) {
    napi_ref result = nullptr;
    Expect(napi_create_reference(env_, value, 1, &result));
    return result;
  }

  std::span<std::byte> Bytes(napi_value value) {
    napi_typedarray_type type = napi_uint8_array;
    size_t length = 0;
    void* data = nullptr;
    Expect(napi_get_typedarray_info(env_, value, &type, &length, &data, nullptr, nullptr));
    if (type != napi_uint8_array && type != napi_uint8_clamped_array) ok_ = false;
    return ok_ ? std::span(static_cast<std::byte*>(data), length) : std::span<std::byte>();
  }

  std::span<double> Doubles(napi_value value) {
    napi_typedarray_type type = napi_uint8_array;
    size_t length = 0;
    void* data = nullptr;
    Expect(napi_get_typedarray_info(env_, value, &type, &length, &data, nullptr, nullptr));
    if (type != napi_float64_array) ok_ = false;
    return ok_ ? std::span(static_cast<double*>(data), length) : std::span<double>();
  }

  std::shared_ptr<Bridge> Handle(napi_value value) {
    void* data = nullptr;
    Expect(napi_get_value_external(env_, value, &data));
    return ok_ ? *static_cast<std::shared_ptr<Bridge>*>(data) : nullptr;
  }

 private:
  void Expect(napi_status status) { ok_ = ok_ && status == napi_ok; }

  napi_env env_;
  bool ok_ = true;
};

template <size_t kCount>
struct Arguments {
  Arguments(napi_env env, napi_callback_info info) {
    size_t count = kCount;
    napi_get_cb_info(env, info, &count, values, nullptr, nullptr);
  }
  napi_value values[kCount] = {};
};

napi_value Refuse(napi_env env) {
  napi_throw_type_error(env, "INVALID_ARGUMENT", "the native data plane was called with wrong arguments");
  return nullptr;
}

/// open(options, onDoorbell, onLog): [handle, promise of the regions]
napi_value Open(napi_env env, napi_callback_info info) {
  const Arguments<3> args(env, info);
  Reader read(env);
  BridgeOptions options;
  const napi_value given = args.values[0];
  options.plane.directory = read.String(read.Property(given, "directory"));
  const std::string backend = read.String(read.Property(given, "backend"));
  options.plane.backend = backend == "memory"  ? Backend::kMemory
                          : backend == "spdk"  ? Backend::kSpdk
                          : backend == "posix" ? Backend::kPosix
                                               : Backend::kUring;
  options.plane.reactors = read.U32(read.Property(given, "reactors"));
  options.plane.cache_bytes = read.U64(read.Property(given, "cacheBytes"));
  options.plane.capacity_bytes = read.U64(read.Property(given, "capacityBytes"));
  options.plane.spdk_memory_bytes = read.U64(read.Property(given, "spdkMemoryBytes"));
  for (const napi_value value : read.Elements(read.Property(given, "bdevs"))) {
    BdevOptions bdev;
    bdev.kind = static_cast<BdevKind>(read.U32(read.Property(value, "kind")));
    bdev.target = read.String(read.Property(value, "target"));
    bdev.nqn = read.String(read.Property(value, "nqn"));
    bdev.name_space = read.U32(read.Property(value, "namespace"));
    bdev.size_bytes = read.U64(read.Property(value, "sizeBytes"));
    bdev.may_lose = read.Bool(read.Property(value, "mayLose"));
    options.plane.bdevs.push_back(std::move(bdev));
  }
  options.port.sq_entries = read.U32(read.Property(given, "sqEntries"));
  options.port.cq_entries = read.U32(read.Property(given, "cqEntries"));
  options.port.slab_bytes = read.U64(read.Property(given, "slabBytes"));
  options.digest_workers = read.U32(read.Property(given, "digestWorkers"));
  options.digest_entries = read.U32(read.Property(given, "digestEntries"));
  const napi_ref on_doorbell = read.Reference(args.values[1]);
  const napi_ref on_log = read.Reference(args.values[2]);
  if (!read.ok()) return Refuse(env);
  auto bridge = std::make_shared<Bridge>(env, std::move(options), on_doorbell, on_log);
  napi_value result = nullptr;
  napi_value handle = nullptr;
  napi_value promise = nullptr;
  // The handle keeps the Bridge's memory, not the store open: a call through it after the close does nothing.
  auto* held = new std::shared_ptr<Bridge>(bridge);
  const auto drop = [](napi_env, void* data, void*) { delete static_cast<std::shared_ptr<Bridge>*>(data); };
  if (napi_create_external(env, held, drop, nullptr, &handle) != napi_ok) {
    delete held;
    return Refuse(env);
  }
  if (bridge->Open(&promise) != napi_ok || napi_create_array_with_length(env, 2, &result) != napi_ok ||
      napi_set_element(env, result, 0, handle) != napi_ok || napi_set_element(env, result, 1, promise) != napi_ok) {
    return Refuse(env);
  }
  return result;
}

napi_value Close(napi_env env, napi_callback_info info) {
  const Arguments<1> args(env, info);
  Reader read(env);
  const auto bridge = read.Handle(args.values[0]);
  napi_value promise = nullptr;
  if (!read.ok() || bridge->Close(&promise) != napi_ok) return Refuse(env);
  return promise;
}

napi_value CloseNow(napi_env env, napi_callback_info info) {
  const Arguments<1> args(env, info);
  Reader read(env);
  const auto bridge = read.Handle(args.values[0]);
  if (!read.ok()) return Refuse(env);
  bridge->CloseNow();
  return nullptr;
}

napi_value Kick(napi_env env, napi_callback_info info) {
  const Arguments<1> args(env, info);
  Reader read(env);
  const auto bridge = read.Handle(args.values[0]);
  if (!read.ok()) return Refuse(env);
  bridge->Kick();
  return nullptr;
}

napi_value KickDigest(napi_env env, napi_callback_info info) {
  const Arguments<2> args(env, info);
  Reader read(env);
  const auto bridge = read.Handle(args.values[0]);
  const uint32_t worker = read.U32(args.values[1]);
  if (!read.ok()) return Refuse(env);
  bridge->KickDigest(worker);
  return nullptr;
}

/// setPlan(handle, numbers): weight, reservation, limit and burst of each class, one after the other.
napi_value SetPlan(napi_env env, napi_callback_info info) {
  const Arguments<2> args(env, info);
  Reader read(env);
  const auto bridge = read.Handle(args.values[0]);
  const auto numbers = read.Doubles(args.values[1]);
  if (!read.ok() || numbers.size() % 4 != 0) return Refuse(env);
  std::vector<ClassPlan> plan;
  for (size_t at = 0; at < numbers.size(); at += 4) {
    plan.push_back({numbers[at], numbers[at + 1], numbers[at + 2], numbers[at + 3]});
  }
  if (!bridge->SetPlan(plan)) return Refuse(env);
  return nullptr;
}

napi_value SetReferenced(napi_env env, napi_callback_info info) {
  const Arguments<2> args(env, info);
  Reader read(env);
  const auto bridge = read.Handle(args.values[0]);
  const bool referenced = read.Bool(args.values[1]);
  if (!read.ok()) return Refuse(env);
  bridge->SetReferenced(referenced);
  return nullptr;
}

/// digestNow(algorithms, bytes, results): fills results (84 bytes, pando/digest.h) at once.
napi_value DigestNow(napi_env env, napi_callback_info info) {
  const Arguments<3> args(env, info);
  Reader read(env);
  const uint32_t algorithms = read.U32(args.values[0]);
  const auto bytes = read.Bytes(args.values[1]);
  const auto target = read.Bytes(args.values[2]);
  if (!read.ok() || target.size() < sizeof(DigestResults)) return Refuse(env);
  BodyDigest digest(algorithms);
  digest.Update(bytes);
  DigestResults results;
  digest.Finish(&results);
  std::memcpy(target.data(), &results, sizeof(results));
  return nullptr;
}

/// keepFreedMemory(bytes): the C library gives the process's freed memory back to the system only beyond so many bytes at the
/// end of its heap. Every 64 KiB that Node reads of a body is a fresh allocation; without this each of its pages is faulted
/// in, zeroed and charged again, which was a third of an upload's system time. A no-op where the C library has no such knob.
napi_value KeepFreedMemory(napi_env env, napi_callback_info info) {
  const Arguments<1> args(env, info);
  Reader read(env);
  const uint32_t bytes = read.U32(args.values[0]);
  if (!read.ok() || bytes > INT_MAX) return Refuse(env);
#if defined(__GLIBC__)
  // Setting the first fixes the threshold of mmap as well, so that has to be said too.
  mallopt(M_TRIM_THRESHOLD, static_cast<int>(bytes));
  mallopt(M_MMAP_THRESHOLD, 4 << 20);
  mallopt(M_TOP_PAD, 4 << 20);
#endif
  return nullptr;
}

/// spdk(): [version, reason]; see SpdkState. Loads the libraries when there are some.
napi_value Spdk(napi_env env, napi_callback_info) {
  const SpdkState& state = ProbeSpdk();
  napi_value result = nullptr;
  napi_create_array_with_length(env, 2, &result);
  uint32_t at = 0;
  for (const std::string* text : {&state.version, &state.reason}) {
    napi_value value = nullptr;
    if (napi_create_string_utf8(env, text->data(), text->size(), &value) != napi_ok) return Refuse(env);
    napi_set_element(env, result, at++, value);
  }
  return result;
}

/// discard(arrayBuffer): detaches it, so that its memory is free now and not when the collector finds it. The collector
/// counts such memory and marks the whole heap for it: every 16 MiB of bodies, when the heap is small.
napi_value Discard(napi_env env, napi_callback_info info) {
  const Arguments<1> args(env, info);
  if (napi_detach_arraybuffer(env, args.values[0]) != napi_ok) return Refuse(env);
  return nullptr;
}

napi_value Initialize(napi_env env, napi_value exports) {
  const napi_property_attributes plain = napi_enumerable;
  napi_value layout_version = nullptr;
  napi_create_uint32(env, kPortLayoutVersion, &layout_version);
  napi_value has_rdma = nullptr;
  napi_get_boolean(env, HasRdma(), &has_rdma);
  const napi_property_descriptor properties[] = {
      {"layoutVersion", nullptr, nullptr, nullptr, nullptr, layout_version, plain, nullptr},
      {"hasRdma", nullptr, nullptr, nullptr, nullptr, has_rdma, plain, nullptr},
      {"open", nullptr, Open, nullptr, nullptr, nullptr, plain, nullptr},
      {"close", nullptr, Close, nullptr, nullptr, nullptr, plain, nullptr},
      {"closeNow", nullptr, CloseNow, nullptr, nullptr, nullptr, plain, nullptr},
      {"kick", nullptr, Kick, nullptr, nullptr, nullptr, plain, nullptr},
      {"kickDigest", nullptr, KickDigest, nullptr, nullptr, nullptr, plain, nullptr},
      {"setReferenced", nullptr, SetReferenced, nullptr, nullptr, nullptr, plain, nullptr},
      {"setPlan", nullptr, SetPlan, nullptr, nullptr, nullptr, plain, nullptr},
      {"keepFreedMemory", nullptr, KeepFreedMemory, nullptr, nullptr, nullptr, plain, nullptr},
      {"spdk", nullptr, Spdk, nullptr, nullptr, nullptr, plain, nullptr},
      {"discard", nullptr, Discard, nullptr, nullptr, nullptr, plain, nullptr},
      {"digestNow", nullptr, DigestNow, nullptr, nullptr, nullptr, plain, nullptr},
      {"benchThreadsafeCalls", nullptr, BenchThreadsafeCalls, nullptr, nullptr, nullptr, plain, nullptr},
  };
  if (napi_define_properties(env, exports, std::size(properties), properties) != napi_ok) return nullptr;
  return exports;
}

}  // namespace
}  // namespace pando::napi

NAPI_MODULE_INIT() { return pando::napi::Initialize(env, exports); }
