#include "bridge.h"

#include <cstdlib>
#include <string_view>

namespace pando::napi {
namespace {

void Check(napi_status status) { PANDO_ASSERT(status == napi_ok); }

/// For calls that change objects or settle promises. A worker may be told to end at any instruction: from then on they
/// fail, and nobody is left to be told.
bool Alive(napi_status status) { return status == napi_ok; }

napi_value MakeString(napi_env env, std::string_view text) {
  napi_value value = nullptr;
  Check(napi_create_string_utf8(env, text.data(), text.size(), &value));
  return value;
}

uv_handle_s* AsHandle(uv_async_s* async) { return reinterpret_cast<uv_handle_s*>(async); }

}  // namespace

Bridge::Bridge(napi_env env, BridgeOptions options, napi_ref on_doorbell, napi_ref on_log)
    : env_(env), options_(std::move(options)), on_doorbell_(on_doorbell), on_log_(on_log) {}

Bridge::~Bridge() { PANDO_ASSERT(!thread_.joinable()); }

napi_status Bridge::Open(napi_value* promise) {
  uv_loop_s* loop = nullptr;
  napi_status status = napi_get_uv_event_loop(env_, &loop);
  if (status != napi_ok) return status;
  status = napi_async_init(env_, nullptr, MakeString(env_, "pando"), &context_);
  if (status != napi_ok) return status;
  status = napi_create_promise(env_, &opening_, promise);
  if (status != napi_ok) return status;
  bell_ = static_cast<uv_async_s*>(std::calloc(1, uv_handle_size(kUvAsync)));
  PANDO_ASSERT(bell_ != nullptr && uv_async_init(loop, bell_, &Bridge::OnBell) == 0);
  uv_handle_set_data(AsHandle(bell_), this);
  Check(napi_add_async_cleanup_hook(env_, &Bridge::OnEnvironmentExit, this, &cleanup_));
  self_ = shared_from_this();
  options_.port.doorbell = [this] { Ring(); };
  options_.plane.log = [this](LogLevel level, std::string_view text) { Log(level, text); };
  thread_ = std::thread([this] { OpenOnThread(); });
  return napi_ok;
}

void Bridge::OpenOnThread() {
  auto plane = DataPlane::Open(options_.plane);
  if (!plane.ok()) {
    open_error_ = plane.error();
  } else {
    plane_ = std::move(plane).value();
    auto port = plane_->OpenPort(options_.port);
    if (port.ok()) {
      port_ = std::move(port).value();
      DigestWorkersOptions digest_options;
      digest_options.workers = options_.digest_workers;
      digest_options.entries = options_.digest_entries;
      digest_options.slab = port_->slab();
      digest_options.doorbell = [this] { Ring(); };
      digests_ = std::make_unique<DigestWorkers>(std::move(digest_options));
    } else {
      open_error_ = port.error();
      static_cast<void>(plane_->Close());
      plane_.reset();
    }
  }
  open_done_.store(true);
  Ring();
}

napi_status Bridge::Close(napi_value* promise) {
  // Programmer errors: the TypeScript side closes once, after it has opened.
  PANDO_ASSERT(!close_started_ && opening_ == nullptr && port_ != nullptr);
  const napi_status status = napi_create_promise(env_, &closing_, promise);
  if (status != napi_ok) return status;
  close_started_ = true;
  uv_ref(AsHandle(bell_));
  thread_ = std::thread([this] {
    CloseOnThread();
    close_done_.store(true);
    Ring();
  });
  return napi_ok;
}

void Bridge::CloseOnThread() {
  // The digest workers read the slab, which goes with the port; the port must go before the plane.
  if (digests_) digests_->Close();
  if (port_) port_->Close();
  if (!plane_) return;
  const Status closed = plane_->Close();
  if (!closed.ok()) close_error_ = closed.error();
}

void Bridge::Join() {
  if (thread_.joinable()) thread_.join();
}

void Bridge::CloseNow() {
  Join();
  if (!close_started_) {
    close_started_ = true;
    CloseOnThread();
  }
}

void Bridge::Kick() {
  if (opening_ == nullptr && port_ && !close_started_) port_->Kick();
}

bool Bridge::SetPlan(std::span<const ClassPlan> plan) {
  if (opening_ != nullptr || !plane_ || close_started_) return true;
  return plane_->SetPlan(plan).ok();
}

void Bridge::KickDigest(uint32_t worker) {
  if (opening_ == nullptr && digests_ && !close_started_ && worker < digests_->workers()) digests_->Kick(worker);
}

void Bridge::SetReferenced(bool referenced) {
  if (retired_ || close_started_) return;
  referenced ? uv_ref(AsHandle(bell_)) : uv_unref(AsHandle(bell_));
}

void Bridge::Ring() { uv_async_send(bell_); }

void Bridge::Log(LogLevel level, std::string_view text) {
  {
    const std::lock_guard lock(log_mutex_);
    if (log_lines_.size() >= kMaxLogLines) {
      ++log_dropped_;
      return;
    }
    log_lines_.emplace_back(level, text);
  }
  Ring();
}

void Bridge::OnBell(uv_async_s* async) {
  auto* bridge = static_cast<Bridge*>(uv_handle_get_data(AsHandle(async)));
  const std::shared_ptr<Bridge> alive = bridge->self_;
  if (!bridge->in_teardown_ && !bridge->retired_) bridge->HandleBell();
}

void Bridge::HandleBell() {
  napi_handle_scope handles = nullptr;
  Check(napi_open_handle_scope(env_, &handles));
  napi_value resource = nullptr;
  Check(napi_create_object(env_, &resource));
  napi_callback_scope callbacks = nullptr;
  // Fails when the environment may no longer run JavaScript (a worker being terminated).
  if (napi_open_callback_scope(env_, resource, context_, &callbacks) == napi_ok) {
    DeliverLog();
    if (opening_ != nullptr && open_done_.load()) SettleOpen();
    if (opening_ == nullptr && port_) Call(on_doorbell_, 0, nullptr);
    if (closing_ != nullptr && close_done_.load()) SettleClose();
    static_cast<void>(napi_close_callback_scope(env_, callbacks));
  }
  if (retired_) DestroyContext();
  static_cast<void>(napi_close_handle_scope(env_, handles));
}

void Bridge::Call(napi_ref function, size_t argc, const napi_value* argv) {
  napi_value callee = nullptr;
  napi_value receiver = nullptr;
  if (napi_get_reference_value(env_, function, &callee) != napi_ok || callee == nullptr) return;
  Check(napi_get_undefined(env_, &receiver));
  if (napi_call_function(env_, receiver, callee, argc, argv, nullptr) != napi_pending_exception) return;
  napi_value exception = nullptr;
  if (napi_get_and_clear_last_exception(env_, &exception) == napi_ok) {
    static_cast<void>(napi_fatal_exception(env_, exception));
  }
}

void Bridge::DeliverLog() {
  std::deque<std::pair<LogLevel, std::string>> lines;
  {
    const std::lock_guard lock(log_mutex_);
    lines.swap(log_lines_);
    if (log_dropped_ > 0) {
      lines.emplace_back(LogLevel::kWarn, std::to_string(log_dropped_) + " log lines were dropped");
      log_dropped_ = 0;
    }
  }
  for (const auto& [level, text] : lines) {
    napi_value arguments[2] = {nullptr, MakeString(env_, text)};
    Check(napi_create_uint32(env_, static_cast<uint32_t>(level), &arguments[0]));
    Call(on_log_, 2, arguments);
  }
}

void Bridge::SettleOpen() {
  Join();
  const napi_deferred deferred = std::exchange(opening_, nullptr);
  uv_unref(AsHandle(bell_));
  if (open_error_.code != ErrorCode::kOk) {
    static_cast<void>(napi_reject_deferred(env_, deferred, MakeError(open_error_)));
    Retire();
    return;
  }
  const napi_value regions = Regions();
  if (regions != nullptr) {
    static_cast<void>(napi_resolve_deferred(env_, deferred, regions));
    return;
  }
  CloseNow();
  Detach();
  static_cast<void>(
      napi_reject_deferred(env_, deferred, MakeError({ErrorCode::kInternal, "this runtime forbids external memory"})));
  Retire();
}

void Bridge::SettleClose() {
  Join();
  const napi_deferred deferred = std::exchange(closing_, nullptr);
  Detach();
  digests_.reset();
  port_.reset();
  plane_.reset();
  if (close_error_.code == ErrorCode::kOk) {
    napi_value undefined = nullptr;
    Check(napi_get_undefined(env_, &undefined));
    static_cast<void>(napi_resolve_deferred(env_, deferred, undefined));
  } else {
    static_cast<void>(napi_reject_deferred(env_, deferred, MakeError(close_error_)));
  }
  DeliverLog();
  Retire();
}

napi_value Bridge::Expose(std::span<std::byte> region) {
  napi_value buffer = nullptr;
  // No finalizer: the memory is the port's and outlives the buffer, which is detached first.
  if (napi_create_external_arraybuffer(env_, region.data(), region.size(), nullptr, nullptr, &buffer) != napi_ok) {
    return nullptr;
  }
  napi_ref reference = nullptr;
  Check(napi_create_reference(env_, buffer, 1, &reference));
  regions_.push_back(reference);
  return buffer;
}

napi_value Bridge::Regions() {
  napi_value result = nullptr;
  napi_value digest_rings = nullptr;
  Check(napi_create_object(env_, &result));
  Check(napi_create_array(env_, &digest_rings));
  const napi_value rings = Expose(port_->rings());
  const napi_value slab = Expose(port_->slab());
  if (rings == nullptr || slab == nullptr) return nullptr;
  for (uint32_t worker = 0; worker < digests_->workers(); ++worker) {
    const napi_value region = Expose(digests_->rings(worker));
    if (region == nullptr) return nullptr;
    if (!Alive(napi_set_element(env_, digest_rings, worker, region))) return nullptr;
  }
  const std::pair<const char*, napi_value> fields[] = {{"rings", rings},
                                                       {"slab", slab},
                                                       {"digestRings", digest_rings},
                                                       {"backend", MakeString(env_, plane_->backend())}};
  for (const auto& [name, value] : fields) {
    if (!Alive(napi_set_named_property(env_, result, name, value))) return nullptr;
  }
  return result;
}

napi_value Bridge::MakeError(const Error& error) const {
  const napi_value message = MakeString(env_, error.message);
  const napi_value code = MakeString(env_, ErrorCodeName(error.code));
  napi_value value = nullptr;
  Check(napi_create_error(env_, code, message, &value));
  return value;
}

void Bridge::Detach() {
  for (const napi_ref reference : regions_) {
    napi_value buffer = nullptr;
    if (napi_get_reference_value(env_, reference, &buffer) == napi_ok && buffer != nullptr) {
      static_cast<void>(napi_detach_arraybuffer(env_, buffer));
    }
    static_cast<void>(napi_delete_reference(env_, reference));
  }
  regions_.clear();
}

void Bridge::Retire() {
  retired_ = true;
  for (const napi_ref reference : {on_doorbell_, on_log_}) static_cast<void>(napi_delete_reference(env_, reference));
  uv_close(AsHandle(bell_), [](uv_handle_s* handle) {
    auto* bridge = static_cast<Bridge*>(uv_handle_get_data(handle));
    const std::shared_ptr<Bridge> last = std::move(bridge->self_);
    std::free(handle);
    if (bridge->cleanup_ != nullptr) Check(napi_remove_async_cleanup_hook(bridge->cleanup_));
  });
}

/// Not in Retire: the callback scope that the bell opened stands on the context.
void Bridge::DestroyContext() { static_cast<void>(napi_async_destroy(env_, context_)); }

void Bridge::OnEnvironmentExit(napi_async_cleanup_hook_handle /*handle*/, void* data) {
  auto* bridge = static_cast<Bridge*>(data);
  // Retired already: the close of the bell is on its way and will remove this hook.
  if (bridge->retired_) return;
  bridge->in_teardown_ = true;
  bridge->CloseNow();
  napi_handle_scope handles = nullptr;
  Check(napi_open_handle_scope(bridge->env_, &handles));
  bridge->Detach();
  bridge->digests_.reset();
  bridge->port_.reset();
  bridge->plane_.reset();
  const napi_env env = bridge->env_;
  bridge->Retire();
  bridge->DestroyContext();
  Check(napi_close_handle_scope(env, handles));
}

}  // namespace pando::napi
