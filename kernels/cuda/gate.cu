// WG-KV's write gate (calls/gate.ts) in one launch: the blocks of a cluster share a head's hidden units, a warp takes a row
// of weights at a time, and lane t keeps what token t's units add up to. A cluster has few tokens: the weights come from
// L2 for the others.
#include <cuda_bf16.h>

#include "row-blocks.h"

namespace {

using namespace kvt;

constexpr int kTokens = 4;
constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;
constexpr int kRows = 4;  // of weights that a warp has on their way
constexpr int kMostCluster = 8;
constexpr int kUnits = 64;  // of a block, at least
constexpr unsigned kAllLanes = ~0u;

struct Gate {
  const __nv_bfloat16 *before, *after, *norms, *w1, *b1, *w2, *b2;
  float* scores;
  int tokens, heads, dim, hidden;
  float epsilon;
};

__device__ __forceinline__ float sum_of_warp(float value) {
#pragma unroll
  for (int by = 16; by > 0; by /= 2) value += __shfl_xor_sync(kAllLanes, value, by);
  return value;
}

// A warp a key: `out` [tokens, 2 dim].
__device__ __forceinline__ void normalise(const Gate& p, int head, int first, int tokens, __nv_bfloat16* out) {
  const int lane = threadIdx.x & 31;
  for (int at = threadIdx.x / 32; at < 2 * tokens; at += kWarps) {
    const int half = at & 1, token = at / 2;
    const __nv_bfloat16* key =
        (half == 0 ? p.before : p.after) + (static_cast<int64_t>(first + token) * p.heads + head) * p.dim;
    float square = 0;
    for (int c = lane; c < p.dim; c += 32) {
      const float value = __bfloat162float(key[c]);
      square = fmaf(value, value, square);
    }
    const float inverse = 1 / sqrtf(sum_of_warp(square) / p.dim + p.epsilon);
    for (int c = lane; c < p.dim; c += 32)
      out[at * p.dim + c] =
          __float2bfloat16(__bfloat162float(key[c]) * inverse * __bfloat162float(p.norms[half * p.dim + c]));
  }
}

__device__ __forceinline__ float product(uint4 a, uint4 b, float sum) {
  const uint32_t as[4] = {a.x, a.y, a.z, a.w}, bs[4] = {b.x, b.y, b.z, b.w};
#pragma unroll
  for (int i = 0; i < 4; i++) {
    sum = fmaf(__uint_as_float(as[i] << 16), __uint_as_float(bs[i] << 16), sum);
    sum = fmaf(__uint_as_float(as[i] & 0xffff0000u), __uint_as_float(bs[i] & 0xffff0000u), sum);
  }
  return sum;
}

// Rows of weights in registers: 8 channels a lane, of each 256.
template <int kParts>
struct Weights {
  uint4 parts[kRows][kParts];

  __device__ __forceinline__ void load(const __nv_bfloat16* rows, int unit, int end, int width) {
#pragma unroll
    for (int r = 0; r < kRows; r++)
#pragma unroll
      for (int i = 0; i < kParts; i++) {
        const int channel = 256 * i + 8 * static_cast<int>(threadIdx.x & 31);
        const bool there = unit + r < end && channel < width;
        const __nv_bfloat16* from = rows + static_cast<int64_t>(unit + r) * width + channel;
        parts[r][i] = there ? __ldg(reinterpret_cast<const uint4*>(from)) : make_uint4(0, 0, 0, 0);
      }
  }
};

template <int kParts>
__global__ void __launch_bounds__(kThreads) gate_tokens(const Gate p) {
  extern __shared__ uint4 inputs[];  // [tokens, 2 dim] bf16
  __shared__ float sums[kMostCluster][kTokens], of_warps[kWarps][kTokens];
  const int blocks = blocks_of_row(), rank = rank_in_row();
  const int head = blockIdx.x / blocks, first = blockIdx.y * kTokens;
  const int tokens = min(kTokens, p.tokens - first), width = 2 * p.dim;
  const int lane = threadIdx.x & 31, warp = threadIdx.x / 32;
  const int share = (p.hidden + blocks - 1) / blocks;
  const int end = min(p.hidden, (rank + 1) * share);
  const __nv_bfloat16* rows = p.w1 + static_cast<int64_t>(head) * p.hidden * width;
  int unit = rank * share + warp * kRows;
  Weights<kParts> weights;
  weights.load(rows, unit, end, width);
  arrive_in_row();
  normalise(p, head, first, tokens, reinterpret_cast<__nv_bfloat16*>(inputs));
  __syncthreads();
  float sum = 0;
  for (; unit < end; unit += kWarps * kRows) {
    float own[kRows] = {};
    for (int t = 0; t < tokens; t++) {
      float dots[kRows] = {};
#pragma unroll
      for (int i = 0; i < kParts; i++) {
        const int channel = 256 * i + 8 * lane;
        const uint4 input = channel < width ? inputs[(t * width + channel) / 8] : make_uint4(0, 0, 0, 0);
#pragma unroll
        for (int r = 0; r < kRows; r++) dots[r] = product(weights.parts[r][i], input, dots[r]);
      }
#pragma unroll
      for (int r = 0; r < kRows; r++) {
        dots[r] = sum_of_warp(dots[r]);
        if (lane == t) own[r] = dots[r];
      }
    }
    weights.load(rows, unit + kWarps * kRows, end, width);
#pragma unroll
    for (int r = 0; r < kRows; r++) {
      if (unit + r >= end) break;
      const int at = head * p.hidden + unit + r;
      const float x = own[r] + __bfloat162float(p.b1[at]);
      sum = fmaf(__bfloat162float(p.w2[at]), 0.5f * x * (1 + erff(x * 0.70710678f)), sum);
    }
  }
  if (lane < kTokens) of_warps[warp][lane] = sum;
  __syncthreads();
  wait_for_row();
  if (static_cast<int>(threadIdx.x) < kTokens) {
    for (int w = 1; w < kWarps; w++) sum += of_warps[w][lane];
    of_block(&sums[rank][lane], 0)[0] = sum;
  }
  sync_row();
  if (rank != 0 || static_cast<int>(threadIdx.x) >= tokens) return;
  float all = __bfloat162float(p.b2[head]);
  for (int b = 0; b < blocks; b++) all += sums[b][lane];
  p.scores[(first + lane) * p.heads + head] = 1 / (1 + expf(-all));
}

template <int kParts>
void launch(const CudaCall& call, const Gate& p) {
  int cluster = 1;
  if (has_clusters())
    while (cluster < kMostCluster && p.hidden > cluster * kUnits) cluster *= 2;
  const size_t shared = sizeof(__nv_bfloat16) * 2 * p.dim * (p.tokens < kTokens ? p.tokens : kTokens);
  // Where this fails, so does the launch, and is reported.
  if (shared > 32 * 1024)
    cudaFuncSetAttribute(gate_tokens<kParts>, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared));
  cudaLaunchAttribute shape{};
  shape.id = cudaLaunchAttributeClusterDimension;
  shape.val.clusterDim = {static_cast<unsigned>(cluster), 1, 1};
  cudaLaunchConfig_t config{};
  config.gridDim =
      dim3(static_cast<unsigned>(p.heads * cluster), static_cast<unsigned>((p.tokens + kTokens - 1) / kTokens));
  config.blockDim = dim3(kThreads);
  config.dynamicSmemBytes = shared;
  config.stream = call.stream;
  config.attrs = &shape;
  config.numAttrs = cluster > 1 ? 1 : 0;
  cudaLaunchKernelEx(&config, gate_tokens<kParts>, p);
}

kvt_status gate(const CudaCall& call) {
  const int64_t tokens = call.integer(KVT_GATE_INT_TOKENS);
  Gate p{};
  p.heads = static_cast<int>(call.integer(KVT_GATE_INT_KV_HEADS));
  p.dim = static_cast<int>(call.integer(KVT_GATE_INT_HEAD_DIM));
  p.hidden = static_cast<int>(call.integer(KVT_GATE_INT_HIDDEN));
  p.epsilon = static_cast<float>(call.real(KVT_GATE_REAL_EPSILON));
  if (tokens < 1 || tokens > 65535 * kTokens || p.heads < 1 || p.hidden < 1 || p.dim < 8 || p.dim % 8 != 0 ||
      p.dim > 512)
    return fail(KVT_INVALID, "gate: expected tokens 1 to %d, kvHeads and hidden 1 or more, headDim a multiple of 8 up to 512",
                65535 * kTokens);
  p.tokens = static_cast<int>(tokens);
  p.before = call.at<const __nv_bfloat16>(KVT_GATE_REF_BEFORE);
  p.after = call.at<const __nv_bfloat16>(KVT_GATE_REF_AFTER);
  p.norms = call.at<const __nv_bfloat16>(KVT_GATE_REF_NORMS);
  p.w1 = call.at<const __nv_bfloat16>(KVT_GATE_REF_W1);
  p.b1 = call.at<const __nv_bfloat16>(KVT_GATE_REF_B1);
  p.w2 = call.at<const __nv_bfloat16>(KVT_GATE_REF_W2);
  p.b2 = call.at<const __nv_bfloat16>(KVT_GATE_REF_B2);
  p.scores = call.at<float>(KVT_GATE_REF_SCORES);
  if (reinterpret_cast<uintptr_t>(p.w1) % 16 != 0) return fail(KVT_INVALID, "gate: w1 not aligned to 16 bytes");
  if (p.dim <= 128) launch<1>(call, p);
  else if (p.dim <= 256) launch<2>(call, p);
  else launch<4>(call, p);
  return after_launch("gate");
}

KVT_CUDA_KERNEL(KVT_GATE, gate);

}  // namespace
