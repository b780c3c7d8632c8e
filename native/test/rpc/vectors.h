// Reads vectors.txt (see RPC.md): `kind name` begins an entry, `field value` lines follow.
#ifndef PANDO_TEST_RPC_VECTORS_H_
#define PANDO_TEST_RPC_VECTORS_H_

#include <cstddef>
#include <cstdint>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

namespace pando::rpc {

struct Vector {
  std::string kind;
  std::string name;
  std::map<std::string, std::string> fields;

  [[nodiscard]] bool Has(const std::string& field) const { return fields.contains(field); }
  [[nodiscard]] uint32_t Number(const std::string& field) const {
    return static_cast<uint32_t>(std::stoull(fields.at(field)));
  }
  [[nodiscard]] std::vector<std::byte> Hex(const std::string& field) const {
    const std::string& text = fields.at(field);
    std::vector<std::byte> bytes;
    for (size_t i = 0; i + 1 < text.size(); i += 2) {
      bytes.push_back(static_cast<std::byte>(std::stoi(text.substr(i, 2), nullptr, 16)));
    }
    return bytes;
  }
};

inline std::vector<Vector> ReadVectors() {
  std::ifstream file(PANDO_RPC_VECTORS);
  std::vector<Vector> vectors;
  std::string line;
  while (std::getline(file, line)) {
    if (line.empty() || line[0] == '#') continue;
    std::istringstream words(line);
    std::string key;
    std::string value;
    words >> key >> value;
    if (key == "frame" || key == "greeting" || key == "sealed") {
      vectors.push_back({key, value, {}});
    } else {
      vectors.back().fields[key] = value;
    }
  }
  return vectors;
}

}  // namespace pando::rpc

#endif  // PANDO_TEST_RPC_VECTORS_H_
