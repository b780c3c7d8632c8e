#include "reactor/bdev_list.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <fstream>
#include <sstream>

#include "block/file_handle.h"

namespace pando {
namespace {

constexpr const char* kName = "/bdevs.pando";
constexpr const char* kFirstLine = "pando bdevs 1";

std::string ToHex(const std::array<uint8_t, 16>& uuid) {
  std::string text;
  char digits[3] = {};
  for (const uint8_t byte : uuid) {
    std::snprintf(digits, sizeof digits, "%02x", byte);
    text += digits;
  }
  return text;
}

bool FromHex(const std::string& text, std::array<uint8_t, 16>* uuid) {
  if (text.size() != 32 || text.find_first_not_of("0123456789abcdef") != std::string::npos)
    return false;
  for (size_t i = 0; i < 16; ++i) {
    (*uuid)[i] = static_cast<uint8_t>(std::stoul(text.substr(2 * i, 2), nullptr, 16));
  }
  return true;
}

}  // namespace

bool HasBdevList(const std::string& directory) {
  return ::access((directory + kName).c_str(), F_OK) == 0;
}

Result<std::optional<BdevList>> ReadBdevList(const std::string& directory) {
  const std::string path = directory + kName;
  if (!HasBdevList(directory)) return std::optional<BdevList>();
  std::ifstream file(path);
  std::string line;
  std::string state;
  if (!file) return Error{ErrorCode::kIoError, "cannot read " + path};
  BdevList list;
  std::getline(file, line);
  std::getline(file, state);
  bool good = line == kFirstLine && (state == "made" || state == "being made");
  list.made = state == "made";
  bool ended = false;
  while (good && std::getline(file, line)) {
    ended = line == "end";
    if (ended) break;
    list.uuids.emplace_back();
    good = list.uuids.size() <= 64 && FromHex(line, &list.uuids.back());
  }
  if (!good || !ended || list.uuids.empty()) {
    return Error{ErrorCode::kCorruptChunk,
                 path + " is damaged: it says which bdevs belong to this directory"};
  }
  return std::optional<BdevList>(std::move(list));
}

Status WriteBdevList(const std::string& directory, const BdevList& list) {
  std::string text = std::string(kFirstLine) + (list.made ? "\nmade\n" : "\nbeing made\n");
  for (const auto& uuid : list.uuids) text += ToHex(uuid) + "\n";
  text += "end\n";
  const std::string path = directory + kName;
  const std::string fresh = path + ".new";
  {
    const FileHandle file(
        ::open(fresh.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (file.get() < 0) return SystemError("open " + fresh, errno);
    if (::write(file.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size()) ||
        ::fsync(file.get()) != 0) {
      return SystemError("write " + fresh, errno);
    }
  }
  if (std::rename(fresh.c_str(), path.c_str()) != 0) return SystemError("rename " + fresh, errno);
  const FileHandle above(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (above.get() < 0 || ::fsync(above.get()) != 0) return SystemError("fsync " + directory, errno);
  return {};
}

}  // namespace pando
