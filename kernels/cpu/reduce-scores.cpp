// Scores of heads become one a token (calls/reduce-scores.ts).
#include "row-scores.h"

namespace {

using namespace kvt;

// Tokens whose sums stay in the nearest cache while heads are added.
constexpr int64_t kTokens = 2048;

kvt_status reduce_scores(const CpuCall& call) {
  const int64_t rows = call.integer(KVT_REDUCE_SCORES_INT_ROWS);
  const int64_t group = call.integer(KVT_REDUCE_SCORES_INT_GROUP);
  const int64_t count = call.integer(KVT_REDUCE_SCORES_INT_COUNT);
  const int64_t score_stride = call.integer(KVT_REDUCE_SCORES_INT_SCORE_STRIDE);
  const int64_t out_stride = call.integer(KVT_REDUCE_SCORES_INT_OUT_STRIDE);
  const int64_t reduce = call.integer(KVT_REDUCE_SCORES_INT_REDUCE);
  if (rows < 1 || group < 1 || count < 1 || reduce < kMax || reduce > kSum)
    return fail(KVT_INVALID, "reduce-scores: expected rows, group and count 1 or more and reduce 1, 2 or 3");
  const float* scores = call.at<const float>(KVT_REDUCE_SCORES_REF_SCORES);
  float* out = call.at<float>(KVT_REDUCE_SCORES_REF_OUT);
  const int64_t pieces = (count + kTokens - 1) / kTokens;
  call.threads.run(rows * pieces, [=](int64_t from, int64_t to) {
    for (int64_t at = from; at < to; at++) {
      const int64_t row = at / pieces, first = at % pieces * kTokens;
      const int64_t tokens = std::min(kTokens, count - first);
      float* sums = out + row * out_stride + first;
      for (int64_t head = 0; head < group; head++) {
        const float* own = scores + (row * group + head) * score_stride + first;
        if (head == 0) std::copy(own, own + tokens, sums);
        else if (reduce == kMax) for (int64_t i = 0; i < tokens; i++) sums[i] = std::max(sums[i], own[i]);
        else for (int64_t i = 0; i < tokens; i++) sums[i] += own[i];
      }
      if (reduce == kMean) for (int64_t i = 0; i < tokens; i++) sums[i] /= static_cast<float>(group);
    }
  });
  return KVT_OK;
}

KVT_CPU_KERNEL(KVT_REDUCE_SCORES, reduce_scores);

}  // namespace
