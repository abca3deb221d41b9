// What the CPU's score kernels share: products in 16 independent sums (which the compiler turns into vectors), and the
// scores of a query group written out or reduced (REDUCE of group-scores.ts).
#ifndef KVTIER_CPU_ROW_SCORES_H
#define KVTIER_CPU_ROW_SCORES_H

#include <algorithm>
#include <vector>

#include "halves.h"
#include "kernel.h"

namespace kvt {
// Compiled once a level: internal linkage, so that the linker can't mix levels.
namespace {

enum Reduce : int64_t { kPerQuery, kMax, kMean, kSum };

[[maybe_unused]] inline float dot(const float* a, const float* b, int64_t count) {
  constexpr int kLanes = 16;
  float lanes[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes)
    for (int lane = 0; lane < kLanes; lane++) lanes[lane] += a[i + lane] * b[i + lane];
  float sum = 0;
  for (; i < count; i++) sum += a[i] * b[i];
  for (const float lane : lanes) sum += lane;
  return sum;
}

// Where the scores of one row go: [group or 1, stride].
struct ScoreRow {
  float* out;
  int64_t group, stride, reduce;

  // Writes entry i from the scores of the group's queries.
  void write(const float* scores, int64_t i) const {
    if (reduce == kPerQuery) {
      for (int64_t g = 0; g < group; g++) out[g * stride + i] = scores[g];
      return;
    }
    float value = scores[0];
    for (int64_t g = 1; g < group; g++) value = reduce == kMax ? std::max(value, scores[g]) : value + scores[g];
    out[i] = reduce == kMean ? value / static_cast<float>(group) : value;
  }
  ScoreRow of_row(int64_t row) const {
    return {out + row * (reduce == kPerQuery ? group : 1) * stride, group, stride, reduce};
  }
};

constexpr int64_t kMostGroup = 32;

// Scores `count` bf16 vectors of `width` channels a row with the group's queries, [rows, group, width] in f32: the pieces
// that threads share are vectors of all rows. `vector(row, i)` says where one lies.
template <typename Vector>
[[maybe_unused]] void score_vectors(Threads& threads, const std::vector<float>& queries, int64_t rows, int64_t count, int64_t width,
                   float scale, const ScoreRow& first, Vector vector) {
  threads.run(rows * count, [&](int64_t from, int64_t to) {
    std::vector<float> wide(width);
    float scores[kMostGroup];
    for (int64_t at = from; at < to; at++) {
      const int64_t row = at / count;
      const int64_t i = at % count;
      widen(vector(row, i), width, wide.data());
      const float* query = queries.data() + row * first.group * width;
      for (int64_t g = 0; g < first.group; g++) scores[g] = scale * dot(query + g * width, wide.data(), width);
      first.of_row(row).write(scores, i);
    }
  });
}

}  // namespace
}  // namespace kvt

#endif
