// Decode attention over non-uniform codes (calls/nuq-attend.ts): each page is decoded once for all of its query heads.
#include "../nuq.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "row-scores.h"

namespace {

using namespace kvt;

struct NuqAttend {
  NuqPage page;
  int64_t group, stride, first, parts, part, out_type;
  double theta;
  const uint8_t* pool;
  const uint16_t *q, *books;
  const uint32_t *table, *offsets, *tokens;
  void* out;
};

// Angles of one row's pairs a token, and a decoded page.
struct Room {
  std::vector<double> frequencies;
  std::vector<float> book, keys, values, queries, o, m, l, weights;
};

void decode(const NuqAttend& p, const uint8_t* page, const float* book, float* keys, float* values) {
  const int64_t dim = p.page.dim, bits = p.page.bits;
  const int64_t levels = int64_t{1} << bits;
  const uint32_t mask = static_cast<uint32_t>(levels - 1);
  const uint32_t* words = reinterpret_cast<const uint32_t*>(page);
  const uint16_t* ranges = reinterpret_cast<const uint16_t*>(page + p.page.ranges());
  const float *key_levels = book + 2 * dim, *value_levels = key_levels + levels;
  for (int64_t t = 0; t < kNuqTokens; t++) {
    const uint8_t* row = page + p.page.values() + t * p.page.row_bytes();
    const float middle = of_f16(ranges[2 * t]), half = of_f16(ranges[2 * t + 1]);
    for (int64_t c = 0; c < dim; c++) {
      const int64_t bit = bits * (c % 32);
      const int64_t word = c / 32 * bits + bit / 32;
      uint64_t both = words[word * kNuqTokens + t];
      if (bit % 32 + bits > 32) both |= static_cast<uint64_t>(words[(word + 1) * kNuqTokens + t]) << 32;
      keys[t * dim + c] = book[c] + book[dim + c] * key_levels[both >> (bit % 32) & mask];
      const int64_t at = bits * c;
      uint32_t pair = row[at / 8];
      if (at % 8 + bits > 8) pair |= static_cast<uint32_t>(row[at / 8 + 1]) << 8;
      values[t * dim + c] = middle + half * value_levels[pair >> (at % 8) & mask];
    }
  }
  for (int side = 0; side < 2; side++) {
    const uint16_t* pairs = reinterpret_cast<const uint16_t*>(page + (side == 0 ? p.page.key_outliers() : p.page.value_outliers()));
    for (int64_t t = 0; t < kNuqTokens; t++)
      for (int64_t i = p.page.place(t); i < p.page.place(t + 1); i++)
        (side == 0 ? keys : values)[t * dim + pairs[2 * i] % dim] += of_f16(pairs[2 * i + 1]);
  }
}

void turn(float* key, int64_t dim, int64_t position, const std::vector<double>& frequencies) {
  const int64_t pairs = dim / 2;
  for (int64_t i = 0; i < pairs; i++) {
    const double angle = static_cast<double>(position) * frequencies[i];
    const float c = static_cast<float>(std::cos(angle)), s = static_cast<float>(std::sin(angle));
    const float a = key[i], b = key[i + pairs];
    key[i] = a * c - b * s;
    key[i + pairs] = a * s + b * c;
  }
}

// Adds tokens [0, n) of a decoded page to one query head.
void add(Room& room, int64_t dim, int64_t g, int64_t n) {
  const float* q = room.queries.data() + g * dim;
  float* o = room.o.data() + g * dim;
  float most = room.m[g];
  for (int64_t t = 0; t < n; t++) {
    room.weights[t] = dot(q, room.keys.data() + t * dim, dim);
    most = std::max(most, room.weights[t]);
  }
  const float kept = room.l[g] > 0 ? std::exp(room.m[g] - most) : 0;
  for (int64_t c = 0; c < dim; c++) o[c] *= kept;
  float sum = room.l[g] * kept;
  for (int64_t t = 0; t < n; t++) {
    const float weight = std::exp(room.weights[t] - most);
    sum += weight;
    const float* value = room.values.data() + t * dim;
    for (int64_t c = 0; c < dim; c++) o[c] += weight * value[c];
  }
  room.m[g] = most;
  room.l[g] = sum;
}

void write(const NuqAttend& p, const Room& room, int64_t head, int64_t g) {
  const int64_t dim = p.page.dim;
  const float* o = room.o.data() + g * dim;
  const float l = room.l[g];
  if (p.parts > 0) {
    float* out = static_cast<float*>(p.out) + (head * p.parts + p.part) * (dim + 2);
    std::copy(o, o + dim, out);
    out[dim] = l > 0 ? room.m[g] : 0;
    out[dim + 1] = l;
    return;
  }
  for (int64_t c = 0; c < dim; c++) {
    const float value = l > 0 ? o[c] / l : 0;
    if (p.out_type == 0)
      static_cast<float*>(p.out)[head * dim + c] = value;
    else
      static_cast<uint16_t*>(p.out)[head * dim + c] = bf16_of(value);
  }
}

void attend_row(const NuqAttend& p, int64_t row, Room& room) {
  const int64_t dim = p.page.dim;
  for (int64_t i = 0; i < p.page.book(); i++) room.book[i] = of_f16(p.books[row * p.page.book() + i]);
  widen(p.q + row * p.group * dim, p.group * dim, room.queries.data());
  for (float& x : room.queries) x /= std::sqrt(static_cast<float>(dim));
  std::fill(room.o.begin(), room.o.end(), 0.0f);
  std::fill(room.l.begin(), room.l.end(), 0.0f);
  std::fill(room.m.begin(), room.m.end(), -INFINITY);
  const int64_t tokens = p.tokens[row];
  for (int64_t from = 0; from < tokens; from += kNuqTokens) {
    const int64_t n = std::min(kNuqTokens, tokens - from);
    decode(p, p.pool + p.table[p.offsets[row] + from / kNuqTokens] * p.stride, room.book.data(), room.keys.data(), room.values.data());
    if (p.theta > 0)
      for (int64_t t = 0; t < n; t++) turn(room.keys.data() + t * dim, dim, p.first + from + t, room.frequencies);
    for (int64_t g = 0; g < p.group; g++) add(room, dim, g, n);
  }
  for (int64_t g = 0; g < p.group; g++) write(p, room, row * p.group + g, g);
}

kvt_status nuq_attend(const CpuCall& call) {
  NuqAttend p{};
  p.page = {call.integer(KVT_NUQ_ATTEND_INT_HEAD_DIM), call.integer(KVT_NUQ_ATTEND_INT_BITS), call.integer(KVT_NUQ_ATTEND_INT_OUTLIERS)};
  const int64_t rows = call.integer(KVT_NUQ_ATTEND_INT_ROWS);
  p.group = call.integer(KVT_NUQ_ATTEND_INT_GROUP);
  p.stride = call.integer(KVT_NUQ_ATTEND_INT_PAGE_STRIDE);
  p.first = call.integer(KVT_NUQ_ATTEND_INT_FIRST);
  p.out_type = call.integer(KVT_NUQ_ATTEND_INT_OUT_TYPE);
  p.parts = call.integer(KVT_NUQ_ATTEND_INT_PARTS);
  p.part = call.integer(KVT_NUQ_ATTEND_INT_PART);
  p.theta = call.real(KVT_NUQ_ATTEND_REAL_THETA);
  p.q = call.at<const uint16_t>(KVT_NUQ_ATTEND_REF_Q);
  p.pool = call.at<const uint8_t>(KVT_NUQ_ATTEND_REF_POOL);
  p.books = call.at<const uint16_t>(KVT_NUQ_ATTEND_REF_BOOKS);
  p.table = call.at<const uint32_t>(KVT_NUQ_ATTEND_REF_TABLE);
  p.offsets = call.at<const uint32_t>(KVT_NUQ_ATTEND_REF_OFFSETS);
  p.tokens = call.at<const uint32_t>(KVT_NUQ_ATTEND_REF_TOKENS);
  p.out = call.at<void>(KVT_NUQ_ATTEND_REF_OUT);
  const auto [dim, bits, outliers] = p.page;
  if (rows < 1 || p.group < 1 || p.group > kMostGroup || bits < 2 || bits > 4 || (dim != 64 && dim != 128 && dim != 256))
    return fail(KVT_INVALID, "nuq-attend: expected rows 1 or more, group 1 to 32, bits 2 to 4 and headDim 64, 128 or 256");
  if (outliers < 0 || p.stride < p.page.bytes() || p.stride % 4 != 0)
    return fail(KVT_INVALID, "nuq-attend: pageStride, expected a multiple of 4 of at least the page");
  if (p.out_type > 1 || (p.parts > 0 && p.part >= p.parts))
    return fail(KVT_INVALID, "nuq-attend: expected outType 0 or 1 and part below parts");
  call.threads.run(rows, [&](int64_t from, int64_t to) {
    Room room;
    for (int64_t i = 0; i < p.page.dim / 2; i++)
      room.frequencies.push_back(std::pow(p.theta, -static_cast<double>(i) / static_cast<double>(p.page.dim / 2)));
    room.book.resize(p.page.book());
    room.keys.resize(kNuqTokens * p.page.dim);
    room.values.resize(kNuqTokens * p.page.dim);
    room.queries.resize(p.group * p.page.dim);
    room.o.resize(p.group * p.page.dim);
    room.m.resize(p.group);
    room.l.resize(p.group);
    room.weights.resize(kNuqTokens);
    for (int64_t row = from; row < to; row++) attend_row(p, row, room);
  });
  return KVT_OK;
}

KVT_CPU_KERNEL(KVT_NUQ_ATTEND, nuq_attend);

}  // namespace
