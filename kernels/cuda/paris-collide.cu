// Collision scores of keys (calls/paris-collide.ts): a thread a key, tiers in shared memory. A subspace's tiers are 64
// words, two a bank, so that random look-ups of a warp conflict twice at most. A block is one turn, its keys on their way
// while it loads the tiers, and others follow: on an H100 faster than blocks that stay.
#include "launch.h"
#include "paris.h"

namespace {

using namespace kvt;

constexpr int kThreads = 256;
constexpr int kKeys = 4;  // of a thread, in flight together
constexpr int kTurn = kThreads * kKeys;

struct Collisions {
  const uint8_t* ids;
  const uint8_t* tiers;
  uint16_t* collisions;
  int64_t tokens, token_stride, score_stride;
  int subspaces;
};

__device__ __forceinline__ uint32_t look_up(uint2 ids, const uint8_t* tiers) {
  uint32_t score = 0;
#pragma unroll
  for (int b = 0; b < 8; b++) {
    const uint32_t word = b < 4 ? ids.x : ids.y;
    score += tiers[b * kPatterns + (word >> (8 * (b & 3)) & 255)];
  }
  return score;
}

// Sign bytes of a key: parts of 8 subspaces.
template <int kParts>
struct Signs {
  uint2 parts[kParts > 0 ? kParts : 1];

  __device__ __forceinline__ void load(const uint2* from) {
    if constexpr (kParts % 2 == 0) {
#pragma unroll
      for (int part = 0; part < kParts; part += 2)
        *reinterpret_cast<uint4*>(&parts[part]) = __ldcs(reinterpret_cast<const uint4*>(from + part));
    } else {
      parts[0] = __ldcs(from);
    }
  }
};

// kParts: parts of 8 subspaces, or 0 for any number of them.
template <int kParts>
__global__ void __launch_bounds__(kThreads, kParts <= 2 ? 5 : 3) count_collisions(const Collisions p) {
  begin_kernel();
  extern __shared__ uint4 table[];
  const int64_t row = blockIdx.y;
  const int parts = kParts > 0 ? kParts : p.subspaces / 8;
  const auto* ids = reinterpret_cast<const uint2*>(p.ids + row * p.token_stride * p.subspaces);
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kTurn + threadIdx.x;
  Signs<kParts> own[kKeys];
#pragma unroll
  for (int k = 0; k < kKeys; k++)
    if (kParts > 0 && first + k * kThreads < p.tokens) own[k].load(ids + (first + k * kThreads) * parts);
  const auto* from = reinterpret_cast<const uint4*>(p.tiers + row * p.subspaces * kPatterns);
  for (int i = threadIdx.x; i < parts * 8 * kPatterns / 16; i += kThreads) table[i] = from[i];
  __syncthreads();
  const auto* tiers = reinterpret_cast<const uint8_t*>(table);
  uint16_t* out = p.collisions + row * p.score_stride;
#pragma unroll
  for (int k = 0; k < kKeys; k++) {
    const int64_t token = first + k * kThreads;
    if (token >= p.tokens) break;
    uint32_t score = 0;
#pragma unroll
    for (int part = 0; part < kParts; part++) score += look_up(own[k].parts[part], tiers + part * 8 * kPatterns);
    if (kParts == 0)
      for (int part = 0; part < parts; part++) score += look_up(ids[token * parts + part], tiers + part * 8 * kPatterns);
    out[token] = static_cast<uint16_t>(score);
  }
}

kvt_status paris_collide(const CudaCall& call) {
  Collisions p{};
  const int64_t rows = call.integer(KVT_PARIS_COLLIDE_INT_ROWS);
  p.ids = call.at<const uint8_t>(KVT_PARIS_COLLIDE_REF_IDS);
  p.tiers = call.at<const uint8_t>(KVT_PARIS_COLLIDE_REF_TIERS);
  p.collisions = call.at<uint16_t>(KVT_PARIS_COLLIDE_REF_COLLISIONS);
  p.tokens = call.integer(KVT_PARIS_COLLIDE_INT_TOKENS);
  p.token_stride = call.integer(KVT_PARIS_COLLIDE_INT_TOKEN_STRIDE);
  p.score_stride = call.integer(KVT_PARIS_COLLIDE_INT_SCORE_STRIDE);
  p.subspaces = static_cast<int>(call.integer(KVT_PARIS_COLLIDE_INT_SUBSPACES));
  if (rows < 1 || rows > 65535 || p.tokens < 1 || p.subspaces < 8 || p.subspaces > 128 || p.subspaces % 8 != 0)
    return fail(KVT_INVALID, "paris-collide: expected rows 1 to 65535, tokens 1 or more, subspaces 8 to 128 by 8");
  if ((reinterpret_cast<uintptr_t>(p.ids) | reinterpret_cast<uintptr_t>(p.tiers)) % 16 != 0 &&
      (p.subspaces != 8 || reinterpret_cast<uintptr_t>(p.ids) % 8 != 0))
    return fail(KVT_INVALID, "paris-collide: expected ids and tiers aligned to 16 bytes");
  const dim3 grid(static_cast<unsigned>((p.tokens + kTurn - 1) / kTurn), static_cast<unsigned>(rows));
  const size_t shared = static_cast<size_t>(p.subspaces) * kPatterns;
  if (p.subspaces == 8)
    launch_kernel(call, count_collisions<1>, {grid, kThreads, shared}, p);
  else if (p.subspaces == 16)
    launch_kernel(call, count_collisions<2>, {grid, kThreads, shared}, p);
  else if (p.subspaces == 32)
    launch_kernel(call, count_collisions<4>, {grid, kThreads, shared}, p);
  else
    launch_kernel(call, count_collisions<0>, {grid, kThreads, shared}, p);
  return after_launch("paris-collide");
}

KVT_CUDA_KERNEL(KVT_PARIS_COLLIDE, paris_collide);

}  // namespace
