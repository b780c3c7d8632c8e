#include <dlfcn.h>
#include <unistd.h>

#include <array>

#include "block/spdk/backend.h"

namespace pando {
namespace {

constexpr const char* kLibrary = "pando_spdk.so";

struct Loaded {
  SpdkBackend* backend = nullptr;
  SpdkState state;
};

/// Beside whatever this code is part of (the addon), or one folder up (a test program).
std::string FindLibrary() {
  Dl_info self = {};
  if (::dladdr(reinterpret_cast<const void*>(&ProbeSpdk), &self) == 0) return {};
  std::string folder = self.dli_fname;
  const size_t slash = folder.rfind('/');
  folder = slash == std::string::npos ? "." : folder.substr(0, slash);
  for (const char* step : {"/", "/../"}) {
    std::string path = folder + step + kLibrary;
    if (::access(path.c_str(), R_OK) == 0) return path;
  }
  return {};
}

Loaded Load() {
  Loaded loaded;
  const std::string path = FindLibrary();
  if (path.empty()) {
    loaded.state.reason = "there is no SPDK back end (pando_spdk.so) beside the addon";
    return loaded;
  }
  void* library = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  if (library == nullptr) {
    const char* why = ::dlerror();
    loaded.state.reason =
        std::string("the SPDK back end does not load: ") + (why != nullptr ? why : path.c_str());
    return loaded;
  }
  using Entry = SpdkBackend* (*)(uint32_t);
  const auto entry = reinterpret_cast<Entry>(::dlsym(library, kSpdkEntryPoint));
  loaded.backend = entry != nullptr ? entry(kSpdkSeamVersion) : nullptr;
  if (loaded.backend == nullptr) {
    loaded.state.reason = path + " was built with another version of the addon: build both again";
    return loaded;
  }
  loaded.state.version = loaded.backend->version();
  return loaded;
}

const Loaded& Once() {
  static const Loaded loaded = Load();
  return loaded;
}

}  // namespace

const SpdkState& ProbeSpdk() { return Once().state; }

SpdkBackend* LoadSpdkBackend() { return Once().backend; }

}  // namespace pando
