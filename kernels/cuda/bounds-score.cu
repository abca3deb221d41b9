// Upper bounds of q·k over pages (calls/bounds-score.ts): products of split queries with rows of maxima and minima.
#include "row-products.h"

namespace {

using namespace kvt;

kvt_status bounds_score(const CudaCall& call) {
  const int64_t pages = call.integer(KVT_BOUNDS_SCORE_INT_PAGES);
  const int64_t stride = call.integer(KVT_BOUNDS_SCORE_INT_BOUND_STRIDE);
  const int dim = static_cast<int>(call.integer(KVT_BOUNDS_SCORE_INT_HEAD_DIM));
  RowProducts p{};
  p.queries = call.at<const uint16_t>(KVT_BOUNDS_SCORE_REF_QUERIES);
  p.vectors = {call.at<const uint8_t>(KVT_BOUNDS_SCORE_REF_BOUNDS), nullptr, stride, 1, stride * 4 * dim};
  p.scores = call.at<float>(KVT_BOUNDS_SCORE_REF_SCORES);
  p.count = pages;
  p.score_stride = call.integer(KVT_BOUNDS_SCORE_INT_SCORE_STRIDE);
  p.group = static_cast<int>(call.integer(KVT_BOUNDS_SCORE_INT_GROUP));
  p.dim = dim;
  p.width = 2 * dim;
  p.reduce = static_cast<int>(call.integer(KVT_BOUNDS_SCORE_INT_REDUCE));
  p.scale = 1;
  return score_rows(call, "bounds-score", p, call.integer(KVT_BOUNDS_SCORE_INT_ROWS));
}

KVT_CUDA_KERNEL(KVT_BOUNDS_SCORE, bounds_score);

}  // namespace
