// One data plane with one port, and the digest workers over its slab, as seen from one JavaScript thread. Converts,
// schedules and settles; it decides nothing.
#ifndef PANDO_NAPI_BRIDGE_H_
#define PANDO_NAPI_BRIDGE_H_

#include <node_api.h>

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "event_loop.h"
#include "pando/data_plane.h"
#include "pando/digest_workers.h"

namespace pando::napi {

struct BridgeOptions {
  DataPlaneOptions plane;
  PortOptions port;
  uint32_t digest_workers = 1;
  uint32_t digest_entries = 256;
};

/// Lives from `open` to the end of `close` or of the environment, whichever comes first; all methods but OnBell are for
/// the JavaScript thread. Opening and closing block, so each runs on a thread of its own and rings the bell when done.
class Bridge : public std::enable_shared_from_this<Bridge> {
 public:
  Bridge(napi_env env, BridgeOptions options, napi_ref on_doorbell, napi_ref on_log);
  ~Bridge();
  Bridge(const Bridge&) = delete;
  Bridge& operator=(const Bridge&) = delete;

  /// Starts to open. The promise is settled with the shared regions or with {code, message}.
  [[nodiscard]] napi_status Open(napi_value* promise);
  /// Starts to close: refuses submissions, waits for what is in flight, settles, detaches the regions. Once.
  [[nodiscard]] napi_status Close(napi_value* promise);
  /// The same, blocking and without JavaScript: for the end of the process. Harmless in any state.
  void CloseNow();

  void Kick();
  /// See DataPlane::SetPlan; nothing happens before it is open and once it closes.
  [[nodiscard]] bool SetPlan(std::span<const ClassPlan> plan);
  void KickDigest(uint32_t worker);
  /// Whether the bridge keeps the event loop alive.
  void SetReferenced(bool referenced);

 private:
  static constexpr size_t kMaxLogLines = 1024;

  void Ring();
  void Log(LogLevel level, std::string_view text);
  void OpenOnThread();
  void CloseOnThread();
  void Join();
  static void OnBell(uv_async_s* async);
  void HandleBell();
  void DeliverLog();
  void SettleOpen();
  void SettleClose();
  [[nodiscard]] napi_value Regions();
  [[nodiscard]] napi_value Expose(std::span<std::byte> region);
  [[nodiscard]] napi_value MakeError(const Error& error) const;
  void Call(napi_ref function, size_t argc, const napi_value* argv);
  /// Detaches the regions from JavaScript, so that a view kept too long is empty and not a dangling pointer.
  void Detach();
  void Retire();
  void DestroyContext();
  static void OnEnvironmentExit(napi_async_cleanup_hook_handle handle, void* data);

  napi_env env_;
  BridgeOptions options_;
  napi_ref on_doorbell_;
  napi_ref on_log_;
  napi_async_context context_ = nullptr;
  napi_async_cleanup_hook_handle cleanup_ = nullptr;
  uv_async_s* bell_ = nullptr;
  std::shared_ptr<Bridge> self_;  // until the bell is closed
  bool in_teardown_ = false;
  bool retired_ = false;

  // Written by the opening thread; of this one only once opening_ is null (settled).
  std::unique_ptr<DataPlane> plane_;
  std::unique_ptr<Port> port_;
  std::unique_ptr<DigestWorkers> digests_;
  std::vector<napi_ref> regions_;

  napi_deferred opening_ = nullptr;
  napi_deferred closing_ = nullptr;
  std::thread thread_;
  std::atomic<bool> open_done_{false};
  std::atomic<bool> close_done_{false};
  bool close_started_ = false;
  Error open_error_{ErrorCode::kOk, {}};
  Error close_error_{ErrorCode::kOk, {}};

  std::mutex log_mutex_;
  std::deque<std::pair<LogLevel, std::string>> log_lines_;
  uint64_t log_dropped_ = 0;
};

}  // namespace pando::napi

#endif  // PANDO_NAPI_BRIDGE_H_
