// What each sign pattern is worth to a query (calls/paris-tiers.ts): a warp a subspace, which sorts its patterns by
// distance in registers (bitonic, 8 patterns a lane) and adds up their keys in that order. Distances are 24-bit shares of
// the largest, so that distance and pattern are one word.
#include <cmath>

#include "launch.h"
#include "paris.h"

namespace {

using namespace kvt;

constexpr int kWarps = 4;
constexpr int kOwn = kPatterns / 32;  // patterns of a lane
constexpr int kPatternBits = 8;
constexpr int kOwnChannels = 3;       // in whose signs they differ
constexpr float kFarthest = 0xffff00;  // distance of the opposite pattern; a sum may be rounded up

struct Tiers {
  const __nv_bfloat16* queries;
  const float* signs;
  const uint32_t* counts;
  uint8_t* tiers;
  int subspaces, group, head_dim;
  uint32_t limits[6];  // a pattern with fewer keys before it has tier 6, 5 ..
};

// What a subspace's warp keeps beside its registers.
template <int kDim>
struct WarpShared {
  float query[kDim];
  uint32_t counts[kPatterns];
  __align__(8) uint8_t tiers[kPatterns];
};

// Ascending over the warp: element i of a lane is number lane * kOwn + i.
__device__ __forceinline__ void sort(uint32_t (&x)[kOwn]) {
  const int lane = threadIdx.x & 31;
#pragma unroll
  for (int size = 2; size <= kPatterns; size *= 2) {
#pragma unroll
    for (int half = size / 2; half > 0; half /= 2) {
      if (half >= kOwn) {
        // The lower of two lanes keeps the smaller, or the larger where the run descends.
        const bool smaller = ((lane * kOwn & half) == 0) == ((lane * kOwn & size) == 0);
#pragma unroll
        for (int i = 0; i < kOwn; i++) {
          const uint32_t other = __shfl_xor_sync(~0u, x[i], half / kOwn);
          x[i] = smaller ? min(x[i], other) : max(x[i], other);
        }
      } else {
#pragma unroll
        for (int i = 0; i < kOwn; i++) {
          if ((i & half) != 0) continue;
          const bool up = ((size < kOwn ? i : lane * kOwn) & size) == 0;
          const uint32_t less = min(x[i], x[i + half]), more = max(x[i], x[i + half]);
          x[i] = up ? less : more;
          x[i + half] = up ? more : less;
        }
      }
    }
  }
}

// Patterns of this lane by their distances from the query's signs: what a flipped sign costs is its channel's size.
__device__ __forceinline__ void distances(uint32_t (&keys)[kOwn], const float* query) {
  const int lane = threadIdx.x & 31;
  float q[kSubspace];
  float all = 0;
#pragma unroll
  for (int c = 0; c < kSubspace; c++) {
    q[c] = query[c];
    all += fabsf(q[c]);
  }
  const float scale = all > 0 ? kFarthest / all : 0;
  const auto cost = [&](int c, int pattern) {
    return (q[c] < 0) != ((pattern >> c & 1) != 0) ? fabsf(q[c]) : 0.0f;
  };
  float far = 0;
#pragma unroll
  for (int c = kOwnChannels; c < kSubspace; c++) far += cost(c, lane * kOwn);
#pragma unroll
  for (int i = 0; i < kOwn; i++) {
    float sum = far;
#pragma unroll
    for (int c = 0; c < kOwnChannels; c++) sum += cost(c, i);
    keys[i] = __float2uint_rz(sum * scale) << kPatternBits | static_cast<uint32_t>(lane * kOwn + i);
  }
}

template <int kPer>
__global__ void __launch_bounds__(32 * kWarps) rank_patterns(const Tiers p) {
  begin_kernel();
  __shared__ WarpShared<32 * kPer> shared[kWarps];
  const int lane = threadIdx.x & 31;
  const int64_t row = blockIdx.y;
  const int subspace = blockIdx.x * kWarps + threadIdx.x / 32;
  if (subspace >= p.subspaces) return;
  WarpShared<32 * kPer>& s = shared[threadIdx.x / 32];
  const int64_t at = (row * p.subspaces + subspace) * kPatterns;
#pragma unroll
  for (int i = 0; i < kOwn; i++) s.counts[32 * i + lane] = p.counts[at + 32 * i + lane];
  float x[kPer];
  rotated_query<kPer>(x, p.queries + row * p.group * p.head_dim, p.group, p.head_dim, p.signs);
#pragma unroll
  for (int i = 0; i < kPer; i++) s.query[lane * kPer + i] = x[i];
  __syncwarp();
  uint32_t keys[kOwn];
  distances(keys, s.query + subspace * kSubspace);
  sort(keys);
  uint32_t own[kOwn];
  uint32_t sum = 0;
#pragma unroll
  for (int i = 0; i < kOwn; i++) {
    own[i] = sum;
    sum += s.counts[keys[i] & (kPatterns - 1)];
  }
  uint32_t before = sum;
#pragma unroll
  for (int by = 1; by < 32; by *= 2) {
    const uint32_t other = __shfl_up_sync(~0u, before, by);
    if (lane >= by) before += other;
  }
  before -= sum;
#pragma unroll
  for (int i = 0; i < kOwn; i++) {
    int tier = 0;
#pragma unroll
    for (int limit = 0; limit < 6; limit++) tier += before + own[i] < p.limits[limit];
    s.tiers[keys[i] & (kPatterns - 1)] = static_cast<uint8_t>(tier);
  }
  __syncwarp();
  reinterpret_cast<uint2*>(p.tiers + at)[lane] = reinterpret_cast<const uint2*>(s.tiers)[lane];
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
  for (int i = 0; i < 6; i++) p.limits[i] = static_cast<uint32_t>(std::ceil(kShares[i] * wanted));
  if (rows < 1 || rows > 65535 || p.group < 1)
    return fail(KVT_INVALID, "paris-tiers: expected rows 1 to 65535 and group 1 or more");
  if (reinterpret_cast<uintptr_t>(p.tiers) % 8 != 0)
    return fail(KVT_INVALID, "paris-tiers: expected tiers aligned to 8 bytes");
  const int dim = padded_dim(p.head_dim);
  p.subspaces = dim / kSubspace;
  const dim3 grid(static_cast<unsigned>((p.subspaces + kWarps - 1) / kWarps), static_cast<unsigned>(rows));
  const bool known = for_padded_dim(dim, [&](auto per) {
    launch_kernel(call, rank_patterns<decltype(per)::value>, {grid, 32 * kWarps}, p);
  });
  if (!known) return fail(KVT_INVALID, "paris-tiers: headDim %d, expected 33 to 1024", p.head_dim);
  return after_launch("paris-tiers");
}

KVT_CUDA_KERNEL(KVT_PARIS_TIERS, paris_tiers);

}  // namespace
