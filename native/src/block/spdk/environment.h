// SPDK as such: started once in the life of a process, on a thread of its own, which makes and
// removes bdevs and drives SPDK's own work (admin queues of controllers, for example). Never torn
// down before the process ends: DPDK cannot be started twice.
#ifndef PANDO_BLOCK_SPDK_ENVIRONMENT_H_
#define PANDO_BLOCK_SPDK_ENVIRONMENT_H_

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <mutex>
#include <string>
#include <thread>

#include "block/spdk/backend.h"

struct spdk_thread;

namespace pando {

class SpdkEnvironment {
 public:
  /// Lives until the process ends.
  static SpdkEnvironment& Get();

  /// A second call with less or the same needs succeeds at once.
  [[nodiscard]] Status Start(const SpdkProcessOptions& options, const LogSink& log);
  /// Makes the bdev and returns its name. Blocks, at most for kConfigureSeconds.
  [[nodiscard]] Result<std::string> CreateBdev(const BdevOptions& options);
  /// REQUIRES: nobody has it open. A bdev that is gone already is none the worse.
  void DeleteBdev(const BdevOptions& options, const std::string& name);

  /// While the token is held, what SPDK says goes to this sink too.
  using LogToken = std::list<LogSink>::iterator;
  [[nodiscard]] LogToken AddLog(LogSink sink);
  void RemoveLog(LogToken token);
  void Log(LogLevel level, const std::string& text);

  /// Gives what was running a stop. Called by exit().
  void Stop();

 private:
  static constexpr int kConfigureSeconds = 60;

  SpdkEnvironment() = default;
  void Run();
  /// Runs `work` on SPDK's thread and waits for it.
  void Do(const std::function<void()>& work);
  // On SPDK's thread:
  [[nodiscard]] Status Initialize(const SpdkProcessOptions& options);
  [[nodiscard]] Status Configure(const std::string& subsystem, const std::string& calls);
  [[nodiscard]] Result<std::string> CreateHere(const BdevOptions& options);
  void DeleteHere(const BdevOptions& options, const std::string& name);
  /// Polls until `done`, which some call back sets; false when it takes too long.
  bool PollUntil(const bool& done);
  [[nodiscard]] std::string LastWords();

  std::mutex start_mutex_;
  bool tried_ = false;
  Status started_;
  uint64_t memory_bytes_ = 0;
  std::vector<std::string> pci_addresses_;

  std::thread thread_;
  spdk_thread* spdk_thread_ = nullptr;
  std::mutex mutex_;  // guards what follows
  std::condition_variable changed_;
  const std::function<void()>* work_ = nullptr;
  bool stopping_ = false;

  // SPDK's thread only.
  struct Controller {
    std::string name;
    size_t users = 0;
  };
  std::map<std::string, Controller> controllers_;  // by address and subsystem
  uint64_t next_name_ = 0;

  std::mutex log_mutex_;  // guards what follows
  std::list<LogSink> logs_;
  std::string last_words_;
  std::chrono::steady_clock::time_point log_minute_;
  uint64_t log_lines_ = 0;
};

}  // namespace pando

#endif  // PANDO_BLOCK_SPDK_ENVIRONMENT_H_
