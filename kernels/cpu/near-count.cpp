// How many scores of each row lie near its largest (calls/near-count.ts).
#include <algorithm>

#include "kernel.h"

namespace {

using namespace kvt;

kvt_status near_count(const CpuCall& call) {
  const int64_t rows = call.integer(KVT_NEAR_COUNT_INT_ROWS);
  const int64_t count = call.integer(KVT_NEAR_COUNT_INT_COUNT);
  const int64_t stride = call.integer(KVT_NEAR_COUNT_INT_SCORE_STRIDE);
  const float alpha = static_cast<float>(call.real(KVT_NEAR_COUNT_REAL_ALPHA));
  if (rows < 1 || count < 1) return fail(KVT_INVALID, "near-count: expected rows and count 1 or more");
  const float* scores = call.at<const float>(KVT_NEAR_COUNT_REF_SCORES);
  uint32_t* counts = call.at<uint32_t>(KVT_NEAR_COUNT_REF_COUNTS);
  call.threads.run(rows, [&](int64_t from, int64_t to) {
    for (int64_t row = from; row < to; row++) {
      const float* own = scores + row * stride;
      const float least = *std::max_element(own, own + count) - alpha;
      counts[row] = static_cast<uint32_t>(std::count_if(own, own + count, [=](float x) { return x > least; }));
    }
  });
  return KVT_OK;
}

KVT_CPU_KERNEL(KVT_NEAR_COUNT, near_count);

}  // namespace
