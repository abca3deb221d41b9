// Top-k of rows (calls/topk.ts): the k-th highest by nth_element over a copy, then one pass in order, so that ids ascend
// and ties go to the earlier positions.
#include <algorithm>
#include <functional>
#include <vector>

#include "kernel.h"

namespace {

using namespace kvt;

kvt_status topk(const CpuCall& call) {
  const int64_t rows = call.integer(KVT_TOPK_INT_ROWS);
  const int64_t of = call.integer(KVT_TOPK_INT_OF);
  const int64_t k = call.integer(KVT_TOPK_INT_K);
  const int64_t score_stride = call.integer(KVT_TOPK_INT_SCORE_STRIDE);
  const int64_t map_stride = call.integer(KVT_TOPK_INT_MAP_STRIDE);
  const int64_t id_stride = call.integer(KVT_TOPK_INT_ID_STRIDE);
  if (rows < 1 || k < 1 || of < k || of > INT64_C(1) << 30)
    return fail(KVT_INVALID, "topk: expected rows 1 or more and 1 <= k <= of <= 2^30");
  const float* scores = call.at<const float>(KVT_TOPK_REF_SCORES);
  const uint32_t* map = call.at<const uint32_t>(KVT_TOPK_REF_MAP);
  uint32_t* ids = call.at<uint32_t>(KVT_TOPK_REF_IDS);
  call.threads.run(rows, [&](int64_t from, int64_t to) {
    std::vector<float> order(of);
    for (int64_t row = from; row < to; row++) {
      const float* of_row = scores + row * score_stride;
      const uint32_t* of_map = map == nullptr ? nullptr : map + row * map_stride;
      uint32_t* next = ids + row * id_stride;
      std::copy(of_row, of_row + of, order.begin());
      std::nth_element(order.begin(), order.begin() + (k - 1), order.end(), std::greater<float>());
      const float least = order[k - 1];
      int64_t ties = k - std::count_if(order.begin(), order.begin() + k, [=](float score) { return score > least; });
      for (int64_t i = 0; i < of; i++) {
        if (of_row[i] < least || (of_row[i] == least && ties-- <= 0)) continue;
        *next++ = of_map == nullptr ? static_cast<uint32_t>(i) : of_map[i];
      }
    }
  });
  return KVT_OK;
}

KVT_CPU_KERNEL(KVT_TOPK, topk);

}  // namespace
