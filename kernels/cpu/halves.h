// bf16 and f16 to and from float, round to nearest even; the twin of floats.ts for finite numbers.
#ifndef KVTIER_CPU_HALVES_H
#define KVTIER_CPU_HALVES_H

#include <cstdint>
#include <cstring>

namespace kvt {
// Compiled once a level: internal linkage, so that the linker can't mix levels.
namespace {

[[maybe_unused]] inline float of_bf16(uint16_t bits) {
  const uint32_t word = static_cast<uint32_t>(bits) << 16;
  float value;
  std::memcpy(&value, &word, sizeof value);
  return value;
}

[[maybe_unused]] inline uint16_t bf16_of(float value) {
  uint32_t word;
  std::memcpy(&word, &value, sizeof word);
  return static_cast<uint16_t>((word + 0x7fff + ((word >> 16) & 1)) >> 16);
}

[[maybe_unused]] inline float of_f16(uint16_t bits) {
  _Float16 value;
  std::memcpy(&value, &bits, sizeof value);
  return static_cast<float>(value);
}

[[maybe_unused]] inline uint16_t f16_of(float value) {
  const _Float16 half = static_cast<_Float16>(value);
  uint16_t bits;
  std::memcpy(&bits, &half, sizeof bits);
  return bits;
}

[[maybe_unused]] inline void widen(const uint16_t* from, int64_t count, float* to) {
  for (int64_t i = 0; i < count; i++) to[i] = of_bf16(from[i]);
}

}  // namespace
}  // namespace kvt

#endif
