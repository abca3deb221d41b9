// What each sign pattern is worth to a query (calls/paris-tiers.ts): a block a subspace, a thread a pattern, which adds up
// the keys of all patterns that are nearer to the query than its own; no sort.
#include "launch.h"
#include "paris.h"

namespace {

using namespace kvt;

struct Tiers {
  const __nv_bfloat16* queries;
  const float* signs;
  const uint32_t* counts;
  uint8_t* tiers;
  int group, head_dim;
  double limits[6];  // keys that tiers 6, 5 .. cover
};

template <int kPer>
__global__ void __launch_bounds__(kPatterns) rank_patterns(const Tiers p) {
  begin_kernel();
  constexpr int kDim = 32 * kPer;
  __shared__ float query[kDim];
  __shared__ __align__(16) float costs[kPatterns];
  __shared__ __align__(16) uint32_t counts[kPatterns];
  const int64_t row = blockIdx.y;
  const int pattern = threadIdx.x;
  const int64_t at = (row * gridDim.x + blockIdx.x) * kPatterns + pattern;
  counts[pattern] = p.counts[at];
  if (threadIdx.x < 32) {
    float x[kPer];
    rotated_query<kPer>(x, p.queries + row * p.group * p.head_dim, p.group, p.head_dim, p.signs);
#pragma unroll
    for (int i = 0; i < kPer; i++) query[threadIdx.x * kPer + i] = x[i];
  }
  __syncthreads();
  float cost = 0;
  for (int c = 0; c < kSubspace; c++) {
    const float q = query[blockIdx.x * kSubspace + c];
    if ((q < 0) != ((pattern >> c & 1) != 0)) cost += fabsf(q);
  }
  costs[pattern] = cost;
  __syncthreads();
  uint32_t covered = 0;
#pragma unroll 8
  for (int other = 0; other < kPatterns; other += 4) {
    const float4 cost_of = *reinterpret_cast<const float4*>(costs + other);
    const uint4 count_of = *reinterpret_cast<const uint4*>(counts + other);
    const auto add = [&](float its_cost, uint32_t count, int its_pattern) {
      if (its_cost < cost || (its_cost == cost && its_pattern < pattern)) covered += count;
    };
    add(cost_of.x, count_of.x, other);
    add(cost_of.y, count_of.y, other + 1);
    add(cost_of.z, count_of.z, other + 2);
    add(cost_of.w, count_of.w, other + 3);
  }
  int tier = 0;
#pragma unroll
  for (int i = 0; i < 6; i++) tier += covered < p.limits[i];
  p.tiers[at] = static_cast<uint8_t>(tier);
}

kvt_status paris_tiers(const CudaCall& call) {
  Tiers p{};
  const int64_t rows = call.integer(KVT_PARIS_TIERS_INT_ROWS);
  p.queries = call.at<const __nv_bfloat16>(KVT_PARIS_TIERS_REF_QUERIES);
  p.signs = call.at<const float>(KVT_PARIS_TIERS_REF_SIGNS);
  p.counts = call.at<const uint32_t>(KVT_PARIS_TIERS_REF_COUNTS);
  p.tiers = call.at<uint8_t>(KVT_PARIS_TIERS_REF_TIERS);
  p.group = static_cast<int>(call.integer(KVT_PARIS_TIERS_INT_GROUP));
  p.head_dim = static_cast<int>(call.integer(KVT_PARIS_TIERS_INT_HEAD_DIM));
  constexpr double kShares[6] = {0.05, 0.15, 0.3, 0.5, 0.75, 1};
  const double wanted = call.real(KVT_PARIS_TIERS_REAL_RHO) * static_cast<double>(call.integer(KVT_PARIS_TIERS_INT_TOKENS));
  for (int i = 0; i < 6; i++) p.limits[i] = kShares[i] * wanted;
  if (rows < 1 || rows > 65535 || p.group < 1)
    return fail(KVT_INVALID, "paris-tiers: expected rows 1 to 65535 and group 1 or more");
  const int dim = padded_dim(p.head_dim);
  const dim3 grid(static_cast<unsigned>(dim / kSubspace), static_cast<unsigned>(rows));
  const bool known = for_padded_dim(dim, [&](auto per) {
    launch_kernel(call, rank_patterns<decltype(per)::value>, {grid, kPatterns}, p);
  });
  if (!known) return fail(KVT_INVALID, "paris-tiers: headDim %d, expected 33 to 1024", p.head_dim);
  return after_launch("paris-tiers");
}

KVT_CUDA_KERNEL(KVT_PARIS_TIERS, paris_tiers);

}  // namespace
