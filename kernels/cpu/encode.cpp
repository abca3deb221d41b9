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

// What a thread works with: by channel, then by group.
struct Scratch {
  std::vector<float> least, most, offset, inverse;
  std::vector<int> codes;

  explicit Scratch(int dim) : least(dim), most(dim), offset(dim), inverse(dim), codes(dim) {}
};

// Codes of a row, halves rounded up as Math.round does. Numbers are positive where they are cut to integers.
void code_row(const HalfFormat& half, const Scratch& scratch, const float* numbers, int dim, int* codes) {
  const float highest = static_cast<float>(half.symmetric ? (1 << (half.bits - 1)) - 1 : (1 << half.bits) - 1);
  const float lowest = half.symmetric ? -highest : 0;
  const float *offset = scratch.offset.data(), *inverse = scratch.inverse.data();
  for (int d = 0; d < dim; d++) {
    float x = (numbers[d] - offset[d]) * inverse[d];
    x = x < lowest ? lowest : x;
    x = x > highest ? highest : x;
    codes[d] = static_cast<int>(x + 128.5f) - 128;
  }
}

void put_row(const PageSide& side, const int* codes, uint8_t* row) {
  if (side.half.bits == 8) {
    for (int d = 0; d < side.dim; d++) row[d] = static_cast<uint8_t>(codes[d]);
    return;
  }
  const int bits = side.half.bits;
  for (int d = 0; d < side.dim; d += 8) {
    uint32_t word = 0;
    for (int j = 0; j < 8; j++) word |= static_cast<uint32_t>(codes[d + j]) << bits * place_of(j);
    std::memcpy(row + d * bits / 8, &word, bits);
  }
}

// A group of tokens by channel, or one token.
void encode_group(const PageSide& side, const float* numbers, int64_t first, int64_t tokens, uint8_t* page,
                  Scratch& scratch) {
  float *least = scratch.least.data(), *most = scratch.most.data();
  std::copy(numbers, numbers + side.dim, least);
  std::copy(numbers, numbers + side.dim, most);
  for (int64_t t = 1; t < tokens; t++)
    for (int d = 0; d < side.dim; d++) {
      const float x = numbers[t * side.dim + d];
      least[d] = x < least[d] ? x : least[d];
      most[d] = x > most[d] ? x : most[d];
    }
  uint16_t* scales = reinterpret_cast<uint16_t*>(page + side.scales);
  const int size = side.half.group_channels == 0 ? side.dim : side.half.group_channels;
  for (int from = 0; from < side.dim; from += size) {
    const int to = std::min(side.dim, from + size);
    const ScalePlace place = scale_place(side.half, side.dim, first, from);
    const Group group = group_of(side.half, *std::min_element(least + from, least + to),
                                 *std::max_element(most + from, most + to), scales + place.at, place.apart);
    std::fill(scratch.offset.begin() + from, scratch.offset.begin() + to, group.offset);
    std::fill(scratch.inverse.begin() + from, scratch.inverse.begin() + to, group.inverse);
  }
  const int64_t row_bytes = side.half.row_bytes(side.dim);
  for (int64_t t = 0; t < tokens; t++) {
    code_row(side.half, scratch, numbers + t * side.dim, side.dim, scratch.codes.data());
    put_row(side, scratch.codes.data(), page + side.rows + (first + t) * row_bytes);
  }
}

kvt_status encode(const CpuCall& call) {
  PageCall c{};
  const kvt_status read = read_page_call(call, "encode", true, c);
  if (read != KVT_OK) return read;
  const int64_t halves = call.integer(KVT_ENCODE_INT_HALVES), start = call.integer(KVT_ENCODE_INT_FROM);
  const int64_t end = call.integer(KVT_ENCODE_INT_TO) == 0 ? c.tokens : call.integer(KVT_ENCODE_INT_TO);
  const int group = format_of(c.to).keys.group_tokens;
  if (halves < 0 || halves > 2 || start < 0 || end <= start || end > c.tokens ||
      (halves != 2 && start % (group == 0 ? c.tokens : group) != 0))
    return fail(KVT_INVALID, "encode: halves %lld of tokens %lld to %lld, expected 0 to 2, of a page, from where a group begins",
                static_cast<long long>(halves), static_cast<long long>(start), static_cast<long long>(end));
  const bool f16 = c.from == FORMAT_F16;
  call.threads.run(c.pages, [&](int64_t from, int64_t to) {
    std::vector<float> numbers(c.tokens * c.dim);
    Scratch scratch(c.dim);
    for (int64_t page = from; page < to; page++)
      for (const bool values : {false, true}) {
        if (halves == (values ? 1 : 2)) continue;
        const PageSide side = side_of(c.to, c.dim, c.tokens, values);
        const uint16_t* raw = reinterpret_cast<const uint16_t*>(c.source_page(page)) + (values ? c.tokens * c.dim : 0);
        widen_numbers(raw + start * c.dim, (end - start) * c.dim, f16, numbers.data() + start * c.dim);
        if (!side.half.coded()) {
          uint16_t* to = reinterpret_cast<uint16_t*>(c.target_page(page) + side.rows);
          for (int64_t i = start * c.dim; i < end * c.dim; i++) to[i] = f16_of(numbers[i]);
          continue;
        }
        const int64_t step = side.half.group_tokens == 0 ? c.tokens : side.half.group_tokens;
        for (int64_t first = start; first < end; first += step)
          encode_group(side, numbers.data() + first * c.dim, first, std::min(step, end - first), c.target_page(page),
                       scratch);
      }
  });
  return KVT_OK;
}

KVT_CPU_KERNEL(KVT_ENCODE, encode);

}  // namespace
