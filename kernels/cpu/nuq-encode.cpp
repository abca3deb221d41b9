// Coding into pages of non-uniform codes (calls/nuq-encode.ts), token by token.
#include "../nuq.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "halves.h"
#include "kernel.h"

namespace {

using namespace kvt;

struct Token {
  const NuqPage& shape;
  uint8_t* page;
  int64_t at;
  std::vector<float> far;
  std::vector<int64_t> order;

  // The `count` channels with the largest measure, in `order`.
  void choose(int64_t count) {
    std::iota(order.begin(), order.end(), int64_t{0});
    std::partial_sort(order.begin(), order.begin() + count, order.end(),
                      [&](int64_t a, int64_t b) { return far[a] != far[b] ? far[a] > far[b] : a < b; });
  }
  void put_outlier(int64_t start, int64_t place, int64_t channel, float rest) const {
    uint16_t* pair = reinterpret_cast<uint16_t*>(page + start) + 2 * place;
    pair[0] = static_cast<uint16_t>(channel);
    pair[1] = f16_of(rest);
  }
};

uint32_t nearest(const float* levels, int64_t count, float x) {
  int64_t best = 0;
  for (int64_t level = 1; level < count; level++)
    if (std::abs(levels[level] - x) < std::abs(levels[best] - x)) best = level;
  return static_cast<uint32_t>(best);
}

void code_key(Token& token, const float* key, const float* book) {
  const auto [dim, bits, outliers] = token.shape;
  const int64_t from = token.shape.place(token.at), places = token.shape.place(token.at + 1) - from;
  const float *middle = book, *half = book + dim, *levels = book + 2 * dim;
  uint32_t* words = reinterpret_cast<uint32_t*>(token.page) + token.at;
  for (int64_t w = 0; w < dim * bits / 32; w++) words[w * kNuqTokens] = 0;
  std::vector<float> rest(dim);
  for (int64_t c = 0; c < dim; c++) {
    const float x = half[c] > 0 ? (key[c] - middle[c]) / half[c] : 0;
    const uint32_t code = nearest(levels, int64_t{1} << bits, x);
    const int64_t bit = bits * (c % 32), word = c / 32 * bits + bit / 32;
    words[word * kNuqTokens] |= code << (bit % 32);
    if (bit % 32 + bits > 32) words[(word + 1) * kNuqTokens] |= code >> (32 - bit % 32);
    rest[c] = key[c] - (middle[c] + half[c] * levels[code]);
    token.far[c] = std::abs(key[c] - middle[c]) - half[c];
  }
  token.choose(places);
  for (int64_t i = 0; i < places; i++) {
    const int64_t c = token.order[i];
    const bool outside = token.far[c] > 0;
    token.put_outlier(token.shape.key_outliers(), from + i, outside ? c : 0, outside ? rest[c] : 0);
  }
}

void code_value(Token& token, const float* value, const float* levels) {
  const auto [dim, bits, outliers] = token.shape;
  const int64_t from = token.shape.place(token.at), places = token.shape.place(token.at + 1) - from;
  float mean = 0;
  for (int64_t c = 0; c < dim; c++) mean += value[c];
  mean /= static_cast<float>(dim);
  for (int64_t c = 0; c < dim; c++) token.far[c] = std::abs(value[c] - mean);
  token.choose(places);
  std::vector<bool> is_far(dim);
  for (int64_t i = 0; i < places; i++) is_far[token.order[i]] = true;
  float least = INFINITY, most = -INFINITY;
  for (int64_t c = 0; c < dim; c++) {
    if (is_far[c]) continue;
    least = std::min(least, value[c]);
    most = std::max(most, value[c]);
  }
  uint16_t* range = reinterpret_cast<uint16_t*>(token.page + token.shape.ranges()) + 2 * token.at;
  range[0] = f16_of((least + most) / 2);
  range[1] = f16_of((most - least) / 2);
  const float middle = of_f16(range[0]), half = of_f16(range[1]);
  uint8_t* row = token.page + token.shape.values() + token.at * token.shape.row_bytes();
  std::fill(row, row + token.shape.row_bytes(), uint8_t{0});
  std::vector<float> rest(dim);
  for (int64_t c = 0; c < dim; c++) {
    const uint32_t code = nearest(levels, int64_t{1} << bits, half > 0 ? (value[c] - middle) / half : 0);
    const int64_t bit = bits * c;
    row[bit / 8] |= static_cast<uint8_t>(code << (bit % 8));
    if (bit % 8 + bits > 8) row[bit / 8 + 1] |= static_cast<uint8_t>(code >> (8 - bit % 8));
    rest[c] = value[c] - (middle + half * levels[code]);
  }
  for (int64_t i = 0; i < places; i++)
    token.put_outlier(token.shape.value_outliers(), from + i, token.order[i], rest[token.order[i]]);
}

kvt_status nuq_encode(const CpuCall& call) {
  const NuqPage shape{call.integer(KVT_NUQ_ENCODE_INT_HEAD_DIM), call.integer(KVT_NUQ_ENCODE_INT_BITS), call.integer(KVT_NUQ_ENCODE_INT_OUTLIERS)};
  const int64_t rows = call.integer(KVT_NUQ_ENCODE_INT_ROWS);
  const int64_t count = call.integer(KVT_NUQ_ENCODE_INT_COUNT);
  const int64_t stride = call.integer(KVT_NUQ_ENCODE_INT_PAGE_STRIDE);
  const int64_t dim = shape.dim, bits = shape.bits;
  if (rows < 1 || count < 1 || bits < 2 || bits > 4 || (dim != 64 && dim != 128 && dim != 256))
    return fail(KVT_INVALID, "nuq-encode: expected rows and count 1 or more, bits 2 to 4 and headDim 64, 128 or 256");
  if (shape.outliers < 0 || shape.outliers > 4 * kNuqTokens || stride < shape.bytes() || stride % 4 != 0)
    return fail(KVT_INVALID, "nuq-encode: expected 256 outliers a page at most, and pageStride a multiple of 4 of at least the page");
  const uint16_t* source = call.at<const uint16_t>(KVT_NUQ_ENCODE_REF_SOURCE);
  const uint16_t* books = call.at<const uint16_t>(KVT_NUQ_ENCODE_REF_BOOKS);
  const uint32_t* slots = call.at<const uint32_t>(KVT_NUQ_ENCODE_REF_SLOTS);
  uint8_t* target = call.at<uint8_t>(KVT_NUQ_ENCODE_REF_TARGET);
  call.threads.run(rows * count, [&](int64_t from, int64_t to) {
    std::vector<float> numbers(2 * dim), book(shape.book());
    for (int64_t i = from; i < to; i++) {
      const int64_t row = i / count, slot = slots[row] + i % count;
      for (int64_t at = 0; at < shape.book(); at++) book[at] = of_f16(books[row * shape.book() + at]);
      widen(source + 2 * i * dim, 2 * dim, numbers.data());
      Token token{shape, target + slot / kNuqTokens * stride, slot % kNuqTokens, std::vector<float>(dim), std::vector<int64_t>(dim)};
      code_key(token, numbers.data(), book.data());
      code_value(token, numbers.data() + dim, book.data() + 2 * dim + (int64_t{1} << bits));
    }
  });
  return KVT_OK;
}

KVT_CPU_KERNEL(KVT_NUQ_ENCODE, nuq_encode);

}  // namespace
