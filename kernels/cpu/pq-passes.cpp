// Estimated products in the passes of PyTorch (calls/pq-passes.ts): each pass over all rows, then the next.
#include <algorithm>
#include <cmath>
#include <vector>

#include "lanes.h"
#include "row-scores.h"

namespace {

using namespace kvt;

// Numbers that are widened and rounded at a time.
constexpr int64_t kAtOnce = 256;

void round_f16(const float* from, int64_t count, uint16_t* to) {
  int64_t i = 0;
#if defined(__F16C__)
  for (; i + 8 <= count; i += 8)
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to + i), _mm256_cvtps_ph(_mm256_loadu_ps(from + i), _MM_FROUND_TO_NEAREST_INT));
#endif
  for (; i < count; i++) to[i] = f16_of(from[i]);
}

// to[i] += from[i].
void add_f16(const uint16_t* from, int64_t count, float* to) {
  join_f16(count, to, [](const auto& sum, const auto& x) { return sum + x; }, from);
}

// Tensors of halves in `passes`, by (row, query head).
struct Passes {
  uint16_t *table, *gathered, *sums, *scaled;
  int64_t count, stride, subspaces, entries;

  // out[i] = factor * sum of `terms` rows.
  void fold(const uint16_t* in, int64_t terms, float factor, uint16_t* out) const {
    in_pieces([&](int64_t first, int64_t few) {
      float sums[kAtOnce] = {};
      for (int64_t t = 0; t < terms; t++) add_f16(in + t * stride + first, few, sums);
      for (float& sum : sums) sum *= factor;
      round_f16(sums, few, out + first);
    });
  }

  void softmax(const uint16_t* in, uint16_t* out) const {
    float most = -INFINITY;
    in_pieces([&](int64_t first, int64_t few) {
      float x[kAtOnce] = {};
      add_f16(in + first, few, x);
      most = std::max(most, *std::max_element(x, x + few));
    });
    double sum = 0;
    in_pieces([&](int64_t first, int64_t few) {
      float x[kAtOnce];
      powers(in + first, few, most, x);
      Lanes sums{};
      for (int64_t i = 0; i < kAtOnce; i += kLanes) sums += lanes_at(x + i);
      sum += total(sums);
    });
    const float factor = static_cast<float>(1 / sum);
    in_pieces([&](int64_t first, int64_t few) {
      float x[kAtOnce];
      powers(in + first, few, most, x);
      for (float& power : x) power *= factor;
      round_f16(x, few, out + first);
    });
  }

 private:
  template <typename Body>
  void in_pieces(const Body& body) const {
    for (int64_t first = 0; first < count; first += kAtOnce) body(first, std::min(kAtOnce, count - first));
  }

  // x[i] = e^(in[i] - most), and zeros behind.
  static void powers(const uint16_t* in, int64_t few, float most, float* x) {
    std::fill(x, x + kAtOnce, 0.0f);
    add_f16(in, few, x);
    std::fill(x + few, x + kAtOnce, -INFINITY);
    for (int64_t i = 0; i < kAtOnce; i += kLanes)
      *reinterpret_cast<Lanes*>(x + i) = exp2_of((lanes_at(x + i) - most) * 1.44269504f);
  }
};

kvt_status pq_passes(const CpuCall& call) {
  const int64_t rows = call.integer(KVT_PQ_PASSES_INT_ROWS);
  const int64_t group = call.integer(KVT_PQ_PASSES_INT_GROUP);
  const int64_t count = call.integer(KVT_PQ_PASSES_INT_COUNT);
  const int64_t dim = call.integer(KVT_PQ_PASSES_INT_HEAD_DIM);
  const int64_t subspaces = call.integer(KVT_PQ_PASSES_INT_SUBSPACES);
  const int64_t centroids = call.integer(KVT_PQ_PASSES_INT_CENTROIDS);
  const int64_t code_stride = call.integer(KVT_PQ_PASSES_INT_CODE_STRIDE);
  const int64_t score_stride = call.integer(KVT_PQ_PASSES_INT_SCORE_STRIDE);
  const float scale = static_cast<float>(call.real(KVT_PQ_PASSES_REAL_SCALE));
  if (rows < 1 || count < 1 || group < 1 || centroids < 1)
    return fail(KVT_INVALID, "pq-passes: expected rows, group, count and centroids 1 or more");
  if (subspaces < 1 || dim % subspaces != 0) return fail(KVT_INVALID, "pq-passes: subspaces must divide headDim");
  const int64_t vectors = rows * group;
  const int64_t channels = dim / subspaces;
  Passes p{};
  p.count = count;
  p.stride = (count + 7) / 8 * 8;
  p.subspaces = subspaces;
  p.entries = subspaces * centroids;
  p.table = call.at<uint16_t>(KVT_PQ_PASSES_REF_PASSES);
  p.gathered = p.table + vectors * p.entries;
  p.sums = p.gathered + vectors * subspaces * p.stride;
  p.scaled = p.sums + vectors * p.stride;
  const uint16_t* queries = call.at<const uint16_t>(KVT_PQ_PASSES_REF_QUERIES);
  const uint16_t* books = call.at<const uint16_t>(KVT_PQ_PASSES_REF_BOOKS);
  const int64_t* codes = call.at<const int64_t>(KVT_PQ_PASSES_REF_CODES);
  float* scores = call.at<float>(KVT_PQ_PASSES_REF_SCORES);
  const auto each = [&](auto body) {
    call.threads.run(vectors, [&](int64_t from, int64_t to) {
      for (int64_t vector = from; vector < to; vector++) body(vector);
    });
  };
  each([&](int64_t vector) {
    std::vector<float> query(dim);
    widen(queries + vector * dim, dim, query.data());
    for (int64_t at = 0; at < p.entries; at++) {
      const uint16_t* centroid = books + (vector / group * p.entries + at) * channels;
      float sum = 0;
      for (int64_t c = 0; c < channels; c++) sum += query[at / centroids * channels + c] * of_f16(centroid[c]);
      p.table[vector * p.entries + at] = f16_of(sum);
    }
  });
  each([&](int64_t vector) {
    for (int64_t s = 0; s < subspaces; s++) {
      const uint16_t* products = p.table + vector * p.entries + s * centroids;
      const int64_t* own = codes + (vector * subspaces + s) * code_stride;
      uint16_t* out = p.gathered + (vector * subspaces + s) * p.stride;
      for (int64_t i = 0; i < count; i++) out[i] = products[own[i]];
    }
  });
  each([&](int64_t vector) {
    p.fold(p.gathered + vector * subspaces * p.stride, subspaces, 1, p.sums + vector * p.stride);
  });
  each([&](int64_t vector) { p.fold(p.sums + vector * p.stride, 1, scale, p.scaled + vector * p.stride); });
  // What was gathered is no longer needed.
  uint16_t* shares = p.gathered;
  each([&](int64_t vector) { p.softmax(p.scaled + vector * p.stride, shares + vector * p.stride); });
  call.threads.run(rows, [&](int64_t from, int64_t to) {
    for (int64_t row = from; row < to; row++)
      for (int64_t g = 0; g < group; g++) {
        float* sums = scores + row * score_stride;
        if (g == 0) std::fill(sums, sums + count, 0.0f);
        add_f16(shares + (row * group + g) * p.stride, count, sums);
      }
  });
  return KVT_OK;
}

KVT_CPU_KERNEL(KVT_PQ_PASSES, pq_passes);

}  // namespace
