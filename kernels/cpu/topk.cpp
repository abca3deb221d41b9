// Top-k of rows (calls/topk.ts): scores are counted by the upper half of their order-preserving bits, the k-th highest is
// sought among those of its count alone, and one pass in order writes ids that ascend, ties to the earlier positions.
#include <algorithm>
#include <cstring>
#include <functional>
#include <vector>

#include "kernel.h"

namespace {

using namespace kvt;

constexpr int kUpperBits = 16;
constexpr int64_t kCountedFrom = 4096;  // clearing the counts takes as long as sorting fewer

// Orders as the scores do; -0 becomes 0.
uint32_t key_of(float score) {
  const float sum = score + 0.0f;
  uint32_t bits;
  std::memcpy(&bits, &sum, sizeof bits);
  return bits ^ ((bits & 0x80000000u) != 0 ? 0xffffffffu : 0x80000000u);
}

struct Threshold {
  uint32_t key;
  int64_t ties;  // of the keys that equal it, how many belong to the best
};

// What a thread keeps from row to row and from call to call: 256 KB of counts are 64 pages that the system gives anew, as
// long as a short selection takes.
struct Scratch {
  std::vector<uint32_t> counts, within;
};

// The k-th highest key.
Threshold threshold_of(const float* scores, int64_t of, int64_t k, Scratch& scratch) {
  auto& [counts, within] = scratch;
  within.clear();
  int64_t left = k;
  if (of <= kCountedFrom) {
    for (int64_t i = 0; i < of; i++) within.push_back(key_of(scores[i]));
  } else {
    // A place for every upper half.
    counts.assign(size_t{1} << kUpperBits, 0);
    for (int64_t i = 0; i < of; i++) counts[key_of(scores[i]) >> kUpperBits]++;
    uint32_t upper = (1u << kUpperBits) - 1;
    for (; upper > 0 && counts[upper] < left; upper--) left -= counts[upper];
    for (int64_t i = 0; i < of; i++) {
      const uint32_t key = key_of(scores[i]);
      if (key >> kUpperBits == upper) within.push_back(key);
    }
  }
  std::nth_element(within.begin(), within.begin() + (left - 1), within.end(), std::greater<uint32_t>());
  const uint32_t key = within[left - 1];
  return {key, left - std::count_if(within.begin(), within.begin() + left, [=](uint32_t other) { return other > key; })};
}

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
    static thread_local Scratch scratch;
    for (int64_t row = from; row < to; row++) {
      const float* of_row = scores + row * score_stride;
      const uint32_t* of_map = map == nullptr ? nullptr : map + row * map_stride;
      uint32_t* next = ids + row * id_stride;
      auto [least, ties] = threshold_of(of_row, of, k, scratch);
      for (int64_t i = 0; i < of; i++) {
        const uint32_t key = key_of(of_row[i]);
        if (key < least || (key == least && ties-- <= 0)) continue;
        *next++ = of_map == nullptr ? static_cast<uint32_t>(i) : of_map[i];
      }
    }
  });
  return KVT_OK;
}

KVT_CPU_KERNEL(KVT_TOPK, topk);

}  // namespace
