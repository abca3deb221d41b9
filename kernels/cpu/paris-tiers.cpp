// What each sign pattern is worth to a query (calls/paris-tiers.ts).
#include <algorithm>
#include <numeric>

#include "paris.h"

namespace {

using namespace kvt;

constexpr double kShares[] = {0.05, 0.15, 0.3, 0.5, 0.75, 1};

void rank_patterns(const float* query, const uint32_t* counts, double wanted, uint8_t* tiers) {
  float costs[kPatterns];
  int order[kPatterns];
  for (int pattern = 0; pattern < kPatterns; pattern++) {
    costs[pattern] = 0;
    for (int64_t c = 0; c < kSubspace; c++)
      if ((query[c] < 0) != ((pattern >> c & 1) != 0)) costs[pattern] += std::fabs(query[c]);
  }
  std::iota(order, order + kPatterns, 0);
  std::stable_sort(order, order + kPatterns, [&](int a, int b) { return costs[a] < costs[b]; });
  uint64_t covered = 0;
  for (const int pattern : order) {
    uint8_t tier = 0;
    for (const double share : kShares) tier = static_cast<uint8_t>(tier + (static_cast<double>(covered) < share * wanted));
    tiers[pattern] = tier;
    covered += counts[pattern];
  }
}

kvt_status paris_tiers(const CpuCall& call) {
  const int64_t rows = call.integer(KVT_PARIS_TIERS_INT_ROWS);
  const int64_t group = call.integer(KVT_PARIS_TIERS_INT_GROUP);
  const int64_t head_dim = call.integer(KVT_PARIS_TIERS_INT_HEAD_DIM);
  const double wanted = call.real(KVT_PARIS_TIERS_REAL_RHO) * static_cast<double>(call.integer(KVT_PARIS_TIERS_INT_TOKENS));
  if (rows < 1 || group < 1 || head_dim < 1)
    return fail(KVT_INVALID, "paris-tiers: expected rows, group and headDim 1 or more");
  const uint16_t* queries = call.at<const uint16_t>(KVT_PARIS_TIERS_REF_QUERIES);
  const float* signs = call.at<const float>(KVT_PARIS_TIERS_REF_SIGNS);
  const uint32_t* counts = call.at<const uint32_t>(KVT_PARIS_TIERS_REF_COUNTS);
  uint8_t* tiers = call.at<uint8_t>(KVT_PARIS_TIERS_REF_TIERS);
  const int64_t subspaces = padded_dim(head_dim) / kSubspace;
  call.threads.run(rows, [&](int64_t from, int64_t to) {
    for (int64_t row = from; row < to; row++) {
      const std::vector<float> query = rotated_query(queries + row * group * head_dim, group, head_dim, signs);
      for (int64_t b = 0; b < subspaces; b++) {
        const int64_t at = (row * subspaces + b) * kPatterns;
        rank_patterns(query.data() + b * kSubspace, counts + at, wanted, tiers + at);
      }
    }
  });
  return KVT_OK;
}

KVT_CPU_KERNEL(KVT_PARIS_TIERS, paris_tiers);

}  // namespace
