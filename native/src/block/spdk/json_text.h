// The little JSON that SPDK's configuration calls need.
#ifndef PANDO_BLOCK_SPDK_JSON_TEXT_H_
#define PANDO_BLOCK_SPDK_JSON_TEXT_H_

#include <string>
#include <string_view>

namespace pando {

/// With its quotes.
inline std::string JsonString(std::string_view text) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string out = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (byte < 0x20) {
      out += "\\u00";
      out += kDigits[byte >> 4];
      out += kDigits[byte & 15];
    } else {
      out += c;
    }
  }
  return out + "\"";
}

/// One call; `parameters` are the insides of its object.
inline std::string JsonCall(std::string_view method, const std::string& parameters) {
  return "{\"method\":" + JsonString(method) + ",\"params\":{" + parameters + "}}";
}

}  // namespace pando

#endif  // PANDO_BLOCK_SPDK_JSON_TEXT_H_
