#include "reactor/partition_list.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <fstream>
#include <sstream>

#include "block/file_handle.h"

namespace pando {
namespace {

std::string PathOf(const std::string& directory, std::string_view name) {
  return directory + "/" + std::string(name) + ".pando";
}

std::string FirstLine(std::string_view name) { return "pando " + std::string(name) + " 1"; }

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

bool HasPartitionList(const std::string& directory, std::string_view name) {
  return ::access(PathOf(directory, name).c_str(), F_OK) == 0;
}

Result<std::optional<PartitionList>> ReadPartitionList(const std::string& directory,
                                                     std::string_view name) {
  const std::string path = PathOf(directory, name);
  if (!HasPartitionList(directory, name)) return std::optional<PartitionList>();
  std::ifstream file(path);
  std::string line;
  std::string state;
  if (!file) return Error{ErrorCode::kIoError, "cannot read " + path};
  PartitionList list;
  std::getline(file, line);
  std::getline(file, state);
  bool good = line == FirstLine(name) && (state == "made" || state == "being made");
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
                 path + " is damaged: it says which partitions belong to this directory"};
  }
  return std::optional<PartitionList>(std::move(list));
}

Status WritePartitionList(const std::string& directory, std::string_view name,
                          const PartitionList& list) {
  std::string text = FirstLine(name) + (list.made ? "\nmade\n" : "\nbeing made\n");
  for (const auto& uuid : list.uuids) text += ToHex(uuid) + "\n";
  text += "end\n";
  const std::string path = PathOf(directory, name);
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
  return SyncDirectory(directory);
}

Status ForgetPartitionList(const std::string& directory, std::string_view name) {
  const std::string path = PathOf(directory, name);
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) return SystemError("unlink " + path, errno);
  return SyncDirectory(directory);
}

Status SyncDirectory(const std::string& path) {
  const FileHandle directory(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (directory.get() < 0 || ::fsync(directory.get()) != 0) {
    return SystemError("fsync " + path, errno);
  }
  return {};
}

}  // namespace pando
