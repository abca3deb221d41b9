// The little JSON that crosses the ABI: flat objects of strings and numbers in, text with escaped strings out.
#ifndef KVTIER_CPU_JSON_H
#define KVTIER_CPU_JSON_H

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

namespace kvt {

// Text after `"key":`, or null. Keys are ours, values are JSON.stringify's.
inline const char* json_value(const char* json, const char* key) {
  const std::string quoted = std::string("\"") + key + "\":";
  const char* found = json == nullptr ? nullptr : std::strstr(json, quoted.c_str());
  return found == nullptr ? nullptr : found + quoted.size();
}

inline double json_number(const char* json, const char* key, double missing) {
  const char* value = json_value(json, key);
  return value == nullptr ? missing : std::strtod(value, nullptr);
}

inline std::string json_string(const char* json, const char* key, const char* missing) {
  const char* at = json_value(json, key);
  if (at == nullptr || *at != '"') return missing;
  std::string text;
  for (at++; *at != '"' && *at != '\0'; at++) {
    if (*at == '\\' && at[1] != '\0') at++;
    text += *at;
  }
  return text;
}

inline std::string json_quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
  }
  return out + "\"";
}

}  // namespace kvt

#endif
