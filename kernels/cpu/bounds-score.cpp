// Upper bounds of q·k over pages (calls/bounds-score.ts): positive parts of the queries times the maxima, the others times
// the minima.
#include "row-scores.h"

namespace {

using namespace kvt;

kvt_status bounds_score(const CpuCall& call) {
  const int64_t rows = call.integer(KVT_BOUNDS_SCORE_INT_ROWS);
  const int64_t group = call.integer(KVT_BOUNDS_SCORE_INT_GROUP);
  const int64_t pages = call.integer(KVT_BOUNDS_SCORE_INT_PAGES);
  const int64_t dim = call.integer(KVT_BOUNDS_SCORE_INT_HEAD_DIM);
  const int64_t stride = call.integer(KVT_BOUNDS_SCORE_INT_BOUND_STRIDE);
  if (rows < 1 || pages < 1 || dim < 1 || group < 1 || group > kMostGroup)
    return fail(KVT_INVALID, "bounds-score: expected rows, pages and headDim 1 or more and group 1 to 32");
  const uint16_t* raw = call.at<const uint16_t>(KVT_BOUNDS_SCORE_REF_QUERIES);
  const uint16_t* bounds = call.at<const uint16_t>(KVT_BOUNDS_SCORE_REF_BOUNDS);
  std::vector<float> split(rows * group * 2 * dim);
  for (int64_t query = 0; query < rows * group; query++)
    for (int64_t c = 0; c < dim; c++) {
      const float q = of_bf16(raw[query * dim + c]);
      split[query * 2 * dim + c] = q > 0 ? q : 0;
      split[query * 2 * dim + dim + c] = q > 0 ? 0 : q;
    }
  const ScoreRow out{call.at<float>(KVT_BOUNDS_SCORE_REF_SCORES), group,
                     call.integer(KVT_BOUNDS_SCORE_INT_SCORE_STRIDE), call.integer(KVT_BOUNDS_SCORE_INT_REDUCE)};
  score_vectors(call.threads, split, rows, pages, 2 * dim, 1, out,
                [=](int64_t row, int64_t i) { return bounds + (row * stride + i) * 2 * dim; });
  return KVT_OK;
}

KVT_CPU_KERNEL(KVT_BOUNDS_SCORE, bounds_score);

}  // namespace
