// The keys that collide most with the query (calls/paris-select.ts): a count per score, then one pass.
#include <vector>

#include "kernel.h"

namespace {

using namespace kvt;

constexpr int64_t kScores = 2048;

kvt_status paris_select(const CpuCall& call) {
  const int64_t rows = call.integer(KVT_PARIS_SELECT_INT_ROWS);
  const int64_t of = call.integer(KVT_PARIS_SELECT_INT_OF);
  const int64_t k = call.integer(KVT_PARIS_SELECT_INT_K);
  const int64_t score_stride = call.integer(KVT_PARIS_SELECT_INT_SCORE_STRIDE);
  const int64_t id_stride = call.integer(KVT_PARIS_SELECT_INT_ID_STRIDE);
  if (rows < 1 || k < 1 || of < k) return fail(KVT_INVALID, "paris-select: expected rows 1 or more and 1 <= k <= of");
  const uint16_t* collisions = call.at<const uint16_t>(KVT_PARIS_SELECT_REF_COLLISIONS);
  uint32_t* ids = call.at<uint32_t>(KVT_PARIS_SELECT_REF_IDS);
  call.threads.run(rows, [&](int64_t from, int64_t to) {
    std::vector<int64_t> counts(kScores);
    for (int64_t row = from; row < to; row++) {
      const uint16_t* own = collisions + row * score_stride;
      counts.assign(kScores, 0);
      for (int64_t i = 0; i < of; i++) counts[own[i] & (kScores - 1)]++;
      int64_t least = kScores - 1;
      int64_t ties = k;
      for (; least > 0 && counts[least] < ties; least--) ties -= counts[least];
      uint32_t* next = ids + row * id_stride;
      const uint32_t* end = next + k;
      for (int64_t i = 0; i < of && next < end; i++)
        if (own[i] > least || (own[i] == least && ties-- > 0)) *next++ = static_cast<uint32_t>(i);
    }
  });
  return KVT_OK;
}

KVT_CPU_KERNEL(KVT_PARIS_SELECT, paris_select);

}  // namespace
