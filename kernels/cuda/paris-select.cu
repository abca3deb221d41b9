// The keys that collide most with the query (calls/paris-select.ts): one digit of counts, one sweep.
#include "select-counts.h"

namespace {

using namespace kvt;

kvt_status paris_select(const CudaCall& call) {
  const int64_t rows = call.integer(KVT_PARIS_SELECT_INT_ROWS);
  const int64_t of = call.integer(KVT_PARIS_SELECT_INT_OF);
  const int64_t k = call.integer(KVT_PARIS_SELECT_INT_K);
  if (rows < 1 || rows > (1 << 26) || k < 1 || of < k || of > (1 << 30))
    return fail(KVT_INVALID, "paris-select: expected rows 1 or more and 1 <= k <= of <= 2^30");
  CountSelection t{};
  t.counts = call.at<const uint16_t>(KVT_PARIS_SELECT_REF_COLLISIONS);
  t.ids = call.at<uint32_t>(KVT_PARIS_SELECT_REF_IDS);
  t.count_stride = call.integer(KVT_PARIS_SELECT_INT_SCORE_STRIDE);
  t.id_stride = call.integer(KVT_PARIS_SELECT_INT_ID_STRIDE);
  t.of = static_cast<int>(of);
  t.k = static_cast<int>(k);
  return select_count_rows(call, "paris-select", t, rows);
}

KVT_CUDA_KERNEL(KVT_PARIS_SELECT, paris_select);

}  // namespace
