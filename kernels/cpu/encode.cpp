// Raw pages to coded ones on the CPU; arguments in calls/encode.ts, arithmetic as encodePage of formats.ts.
#include <vector>

#include "page-calls.h"

namespace {

using namespace kvt;

// Scale, offset and the scale's inverse of a group.
struct Group {
  float scale, offset, inverse;
};

Group group_of(const HalfFormat& half, float least, float most, uint16_t* to, int apart) {
  const float highest = static_cast<float>(half.symmetric ? (1 << (half.bits - 1)) - 1 : (1 << half.bits) - 1);
  to[0] = f16_of((half.symmetric ? std::max(most, -least) : most - least) / highest);
  if (!half.symmetric) to[apart] = f16_of(least);
  const float scale = of_f16(to[0]);
  return {scale, half.symmetric ? 0 : of_f16(to[apart]), scale == 0 ? 0 : 1 / scale};
}

// Code of a number: halves round up, as Math.round does.
inline int code_of(const HalfFormat& half, const Group& group, float x) {
  const int highest = half.symmetric ? (1 << (half.bits - 1)) - 1 : (1 << half.bits) - 1;
  const int code = static_cast<int>(std::floor((x - group.offset) * group.inverse + 0.5f));
  return std::min(highest, std::max(half.symmetric ? -highest : 0, code));
}

void put_row(const PageSide& side, const Group* groups, int group_size, const float* numbers, uint8_t* row) {
  for (int d = 0; d < side.dim; d++) {
    const int code = code_of(side.half, groups[d / group_size], numbers[d]);
    if (side.half.bits == 8) {
      row[d] = static_cast<uint8_t>(code);
      continue;
    }
    const int nibble = nibble_of(d);
    uint8_t& byte = row[4 * (d / 8) + nibble / 2];
    const int shift = 4 * (nibble & 1);
    byte = static_cast<uint8_t>((byte & ~(15 << shift)) | code << shift);
  }
}

// A group of tokens by channel, or one token.
void encode_group(const PageSide& side, const float* numbers, int64_t first, int64_t tokens, uint8_t* page,
                  std::vector<Group>& groups) {
  uint16_t* scales = reinterpret_cast<uint16_t*>(page + side.scales);
  const int across = side.half.groups_across(side.dim);
  const int size = side.half.group_channels == 0 ? side.dim : std::min(side.half.group_channels, side.dim);
  for (int g = 0; g < across; g++) {
    float least = INFINITY, most = -INFINITY;
    for (int64_t t = 0; t < tokens; t++)
      for (int d = g * size; d < std::min(side.dim, (g + 1) * size); d++) {
        least = std::min(least, numbers[t * side.dim + d]);
        most = std::max(most, numbers[t * side.dim + d]);
      }
    const ScalePlace place = scale_place(side.half, side.dim, first, g * size);
    groups[g] = group_of(side.half, least, most, scales + place.at, place.apart);
  }
  const int64_t row_bytes = side.half.row_bytes(side.dim);
  for (int64_t t = 0; t < tokens; t++)
    put_row(side, groups.data(), size, numbers + t * side.dim, page + side.rows + (first + t) * row_bytes);
}

kvt_status encode(const CpuCall& call) {
  PageCall c{};
  const kvt_status read = read_page_call(call, "encode", true, c);
  if (read != KVT_OK) return read;
  const bool f16 = c.from == FORMAT_F16;
  call.threads.run(c.pages, [&](int64_t from, int64_t to) {
    std::vector<float> numbers(c.tokens * c.dim);
    std::vector<Group> groups(c.dim);
    for (int64_t page = from; page < to; page++)
      for (const bool values : {false, true}) {
        const PageSide side = side_of(c.to, c.dim, c.tokens, values);
        const uint16_t* raw = reinterpret_cast<const uint16_t*>(c.source_page(page)) + (values ? c.tokens * c.dim : 0);
        widen_numbers(raw, c.tokens * c.dim, f16, numbers.data());
        const int64_t step = side.half.group_tokens == 0 ? c.tokens : side.half.group_tokens;
        for (int64_t first = 0; first < c.tokens; first += step)
          encode_group(side, numbers.data() + first * c.dim, first, std::min(step, c.tokens - first),
                       c.target_page(page), groups);
      }
  });
  return KVT_OK;
}

KVT_CPU_KERNEL(KVT_ENCODE, encode);

}  // namespace
