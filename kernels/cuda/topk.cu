// Top-k of rows of scores (calls/topk.ts).
#include "select-few-launch.h"

namespace {

using namespace kvt;

kvt_status topk(const CudaCall& call) {
  const int64_t rows = call.integer(KVT_TOPK_INT_ROWS);
  const int64_t of = call.integer(KVT_TOPK_INT_OF);
  const int64_t k = call.integer(KVT_TOPK_INT_K);
  if (rows < 1 || rows > (1 << 26) || k < 1 || of < k || of > (1 << 30))
    return fail(KVT_INVALID, "topk: expected rows 1 or more and 1 <= k <= of <= 2^30");
  Selection<FloatScore> t{};
  t.scores = call.at<const float>(KVT_TOPK_REF_SCORES);
  t.map = call.at<const uint32_t>(KVT_TOPK_REF_MAP);
  t.ids = call.at<uint32_t>(KVT_TOPK_REF_IDS);
  t.score_stride = call.integer(KVT_TOPK_INT_SCORE_STRIDE);
  t.map_stride = call.integer(KVT_TOPK_INT_MAP_STRIDE);
  t.id_stride = call.integer(KVT_TOPK_INT_ID_STRIDE);
  t.of = static_cast<int>(of);
  t.k = static_cast<int>(k);
  if (select_few_rows(call, t, rows)) return after_launch("topk");
  return select_rows(call, "topk", t, rows);
}

KVT_CUDA_KERNEL(KVT_TOPK, topk);

}  // namespace
