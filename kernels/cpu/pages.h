// KV pages on the CPU: halves and bf16 to and from float, rows of a page decoded. Formats in formats.ts.
#ifndef KVTIER_CPU_PAGES_H
#define KVTIER_CPU_PAGES_H

#include <cmath>
#include <cstring>

#include "../formats.h"
#include "nibbles.h"
#include "row-scores.h"

namespace kvt {
// Compiled once a level: internal linkage, so that the linker can't mix levels.
namespace {

inline float of_number(uint16_t bits, bool f16) { return f16 ? of_f16(bits) : of_bf16(bits); }
inline uint16_t number_of(float value, bool f16) { return f16 ? f16_of(value) : bf16_of(value); }

inline void widen_numbers(const uint16_t* from, int64_t count, bool f16, float* to) {
  if (!f16) return widen(from, count, to);
  join_f16(count, to, [](const auto&, const auto& x) { return x; }, from);
}

// Where a group's scale stands, in halves from the start of the scales; its offset stands `apart` on.
struct ScalePlace {
  int64_t at;
  int apart;
};

inline ScalePlace scale_place(const HalfFormat& half, int dim, int64_t token, int channel) {
  if (half.by_channel()) {
    const int64_t group = half.group_tokens == 0 ? 0 : token / half.group_tokens;
    return {group * (half.symmetric ? 1 : 2) * dim + channel, dim};
  }
  const int group = half.group_channels == 0 ? 0 : channel / half.group_channels;
  return {2 * (token * half.groups_across(dim) + group), 1};
}

// Place of a channel's code of 2 or 4 bits among the eight of its word.
constexpr int place_of(int channel) { return ((channel & 7) >> 1) + 4 * (channel & 1); }

// One half (keys or values) of a page.
struct PageSide {
  HalfFormat half;
  int64_t rows;
  int64_t scales;
  int dim;
  bool f16;
};

inline PageSide side_of(int format, int dim, int64_t tokens, bool values) {
  const PageFormat kind = format_of(format);
  const PageLayout layout = layout_of(kind, dim, tokens);
  // Halves that coded formats leave raw are f16.
  const bool f16 = format != FORMAT_BF16;
  if (values) return {kind.values, layout.values, layout.value_scales, dim, f16};
  return {kind.keys, 0, layout.key_scales, dim, f16};
}

// Where a channel's code of 2 or 4 bits begins in the word of its eight; place_of says in which of its fields.
template <int bits>
constexpr int shift_of(int channel) {
  return bits * place_of(channel);
}

// Codes of 2 or 4 bits as floats, an eight of channels a word.
template <int bits>
inline void widen_packed(const uint8_t* row, int dim, float* to) {
  int d = 0;
#if defined(__AVX2__)
  constexpr uint32_t kMask = (1u << bits) - 1;
  Words shifts;
  for (int i = 0; i < kLanes; i++) shifts[i] = static_cast<uint32_t>(shift_of<bits>(i % 8) + i / 8 * 8 * bits % 32);
  for (; d + kLanes <= dim; d += kLanes) {
    const Words codes = words_at<kLanes * bits / 8>(row + d * bits / 8) >> shifts & kMask;
    *reinterpret_cast<Lanes*>(to + d) = __builtin_convertvector(reinterpret_cast<const Integers&>(codes), Lanes);
  }
#endif
  for (; d < dim; d += 8) {
    uint32_t word = 0;
    std::memcpy(&word, row + d * bits / 8, bits);
    for (int i = 0; i < 8; i++) to[d + i] = static_cast<float>(word >> shift_of<bits>(i) & ((1u << bits) - 1));
  }
}

// Codes of a row as floats, channel by channel.
inline void widen_codes(const PageSide& side, const uint8_t* row, float* to) {
  if (side.half.bits == 2) return widen_packed<2>(row, side.dim, to);
  if (side.half.bits == 4) return widen_packed<4>(row, side.dim, to);
  for (int d = 0; d < side.dim; d++)
    to[d] = side.half.symmetric ? static_cast<float>(static_cast<int8_t>(row[d])) : static_cast<float>(row[d]);
}

// Numbers of the row of `token`.
inline void decode_row(const PageSide& side, const uint8_t* page, int64_t token, float* to) {
  const uint8_t* row = page + side.rows + token * side.half.row_bytes(side.dim);
  if (!side.half.coded())
    return widen_numbers(reinterpret_cast<const uint16_t*>(row), side.dim, side.f16, to);
  widen_codes(side, row, to);
  const uint16_t* scales = reinterpret_cast<const uint16_t*>(page + side.scales);
  if (side.half.by_channel()) {
    const uint16_t* from = scales + scale_place(side.half, side.dim, token, 0).at;
    if (side.half.symmetric)
      join_f16(side.dim, to, [](const auto& code, const auto& scale) { return code * scale; }, from);
    else
      join_f16(side.dim, to, [](const auto& code, const auto& scale, const auto& least) { return least + code * scale; },
               from, from + side.dim);
    return;
  }
  const int size = side.half.group_channels == 0 ? side.dim : side.half.group_channels;
  for (int first = 0; first < side.dim; first += size) {
    const uint16_t* pair = scales + scale_place(side.half, side.dim, token, first).at;
    const float scale = of_f16(pair[0]), offset = of_f16(pair[1]);
    for (int d = first; d < std::min(first + size, side.dim); d++) to[d] = offset + to[d] * scale;
  }
}

}  // namespace
}  // namespace kvt
#endif
