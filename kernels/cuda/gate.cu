// WG-KV's write gate (calls/gate.ts) in one launch: the blocks of a cluster share a head's hidden units, a warp multiplies
// 16 of them with up to 32 tokens on the tensor cores, its weights straight from memory into their operands.
#include "launch.h"
#include "mma.cuh"
#include "row-blocks.h"

namespace {

using namespace kvt;

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;
constexpr int kMostTokens = 32;  // of a cluster, in tiles of 8
constexpr int kMostCluster = 8;
constexpr int kUnits = 16 * kWarps;  // that a block takes at once
constexpr int kPart = 256;           // channels whose weights a warp holds at once
constexpr unsigned kAllLanes = ~0u;

struct Gate {
  const __nv_bfloat16 *before, *after, *norms, *w1, *b1, *w2, *b2;
  float* scores;
  int tokens, heads, dim, hidden;
  float epsilon;
  bool next_ahead;
};

// Channels from one token's input to the next: tokens 2 i and 2 i + 1 fall into different banks.
__host__ __device__ constexpr int input_stride(int width) { return (width + 63) / 64 * 64 + 32; }

__device__ __forceinline__ float2 widen(uint32_t pair) { return make_float2(Bf16::low(pair), Bf16::high(pair)); }

// A warp a key, eight channels a lane: `out` [tokens, 2 dim].
__device__ __forceinline__ void normalise(const Gate& p, int head, int first, int tokens, __nv_bfloat16* out) {
  constexpr int kChunks = 2;  // of 256 channels
  const int lane = threadIdx.x & 31, stride = input_stride(2 * p.dim);
#pragma unroll 4
  for (int at = threadIdx.x / 32; at < 2 * tokens; at += kWarps) {
    const int half = at & 1, token = at / 2;
    const __nv_bfloat16* key =
        (half == 0 ? p.before : p.after) + (static_cast<int64_t>(first + token) * p.heads + head) * p.dim;
    uint4 words[kChunks];
    float square = 0;
#pragma unroll
    for (int i = 0; i < kChunks; i++) {
      const int c = 256 * i + 8 * lane;
      words[i] = c < p.dim ? __ldg(reinterpret_cast<const uint4*>(key + c)) : make_uint4(0, 0, 0, 0);
      for (const uint32_t pair : {words[i].x, words[i].y, words[i].z, words[i].w}) {
        const float2 x = widen(pair);
        square = fmaf(x.x, x.x, fmaf(x.y, x.y, square));
      }
    }
#pragma unroll
    for (int by = 16; by > 0; by /= 2) square += __shfl_xor_sync(kAllLanes, square, by);
    const float inverse = 1 / sqrtf(square / p.dim + p.epsilon);
#pragma unroll
    for (int i = 0; i < kChunks; i++) {
      const int c = 256 * i + 8 * lane;
      if (c >= p.dim) continue;
      const uint4 norm = __ldg(reinterpret_cast<const uint4*>(p.norms + half * p.dim + c));
      const auto scaled = [&](uint32_t pair, uint32_t by) {
        const float2 x = widen(pair), y = widen(by);
        return Bf16::pack(x.x * inverse * y.x, x.y * inverse * y.y);
      };
      *reinterpret_cast<uint4*>(out + token * stride + half * p.dim + c) =
          make_uint4(scaled(words[i].x, norm.x), scaled(words[i].y, norm.y), scaled(words[i].z, norm.z),
                     scaled(words[i].w, norm.w));
    }
  }
}

// The weights of 16 units and 256 channels: a lane's share of rows g and g + 8. A sum over channels may take them in any
// order, so that every load is 16 bytes of one row.
struct Weights {
  uint4 rows[2][kPart / 32];

  __device__ __forceinline__ void load(const __nv_bfloat16* of_head, int unit, int end, int part, int width) {
    const int g = threadIdx.x % 32 / 4, c = threadIdx.x % 4;
#pragma unroll
    for (int s = 0; s < 2; s++)
#pragma unroll
      for (int i = 0; i < kPart / 32; i++) {
        const int channel = part + 32 * i + 8 * c, row = unit + g + 8 * s;
        const bool there = row < end && channel < width;
        const __nv_bfloat16* from = of_head + static_cast<int64_t>(row) * width + channel;
        rows[s][i] = there ? __ldg(reinterpret_cast<const uint4*>(from)) : make_uint4(0, 0, 0, 0);
      }
  }

  // Adds their products with eight tokens' inputs.
  __device__ __forceinline__ void multiply(const __nv_bfloat16* inputs, int part, int width, float (&sums)[4]) const {
    const int g = threadIdx.x % 32 / 4, c = threadIdx.x % 4;
#pragma unroll
    for (int i = 0; i < kPart / 32; i++) {
      const int channel = part + 32 * i + 8 * c;
      uint4 x = {0, 0, 0, 0};
      if (channel < width) x = *reinterpret_cast<const uint4*>(inputs + g * input_stride(width) + channel);
      mma<Bf16>(sums, rows[0][i].x, rows[1][i].x, rows[0][i].y, rows[1][i].y, x.x, x.y);
      mma<Bf16>(sums, rows[0][i].z, rows[1][i].z, rows[0][i].w, rows[1][i].w, x.z, x.w);
    }
  }
};

__device__ __forceinline__ float gelu(float x) { return 0.5f * x * (1 + erff(x * 0.70710678f)); }

template <int kTiles>
__global__ void __launch_bounds__(kThreads) gate_tokens(const Gate p) {
  begin_kernel(p.next_ahead);
  extern __shared__ uint4 memory[];
  __shared__ float sums[kMostCluster][kMostTokens], of_warps[kWarps][kMostTokens];
  auto* const inputs = reinterpret_cast<__nv_bfloat16*>(memory);
  const int blocks = blocks_of_row(), rank = rank_in_row();
  const int head = blockIdx.x / blocks, first = blockIdx.y * 8 * kTiles;
  const int tokens = min(8 * kTiles, p.tokens - first), width = 2 * p.dim;
  const int lane = threadIdx.x & 31, warp = threadIdx.x / 32;
  const int share = (p.hidden + blocks - 1) / blocks;
  const int end = min(p.hidden, (rank + 1) * share);
  const __nv_bfloat16* of_head = p.w1 + static_cast<int64_t>(head) * p.hidden * width;
  int unit = rank * share + warp * 16;
  Weights weights;
  weights.load(of_head, unit, end, 0, width);
  arrive_in_row();
  normalise(p, head, first, tokens, inputs);
  __syncthreads();
  float totals[kTiles][2] = {};
  for (; unit < end; unit += kUnits) {
    float products[kTiles][4] = {};
    for (int part = 0; part < width; part += kPart) {
#pragma unroll
      for (int t = 0; t < kTiles; t++)
        if (8 * t < tokens) weights.multiply(inputs + 8 * t * input_stride(width), part, width, products[t]);
      const bool last = part + kPart >= width;
      if (!last || unit + kUnits < end) weights.load(of_head, last ? unit + kUnits : unit, end, last ? 0 : part + kPart, width);
    }
#pragma unroll
    for (int s = 0; s < 2; s++) {
      const int row = unit + lane / 4 + 8 * s;
      if (row >= end) continue;
      const float b1 = __bfloat162float(p.b1[head * p.hidden + row]), w2 = __bfloat162float(p.w2[head * p.hidden + row]);
#pragma unroll
      for (int t = 0; t < kTiles; t++)
#pragma unroll
        for (int j = 0; j < 2; j++) totals[t][j] = fmaf(w2, gelu(products[t][2 * s + j] + b1), totals[t][j]);
    }
  }
#pragma unroll
  for (int t = 0; t < kTiles; t++)
#pragma unroll
    for (int j = 0; j < 2; j++) {
#pragma unroll
      for (int by = 4; by < 32; by *= 2) totals[t][j] += __shfl_xor_sync(kAllLanes, totals[t][j], by);
      if (lane < 4) of_warps[warp][8 * t + 2 * lane + j] = totals[t][j];
    }
  __syncthreads();
  wait_for_row();
  const int token = threadIdx.x;
  if (token < tokens) {
    float sum = 0;
    for (int w = 0; w < kWarps; w++) sum += of_warps[w][token];
    of_block(&sums[rank][token], 0)[0] = sum;
  }
  sync_row();
  if (rank != 0 || token >= tokens) return;
  float all = __bfloat162float(p.b2[head]);
  for (int b = 0; b < blocks; b++) all += sums[b][token];
  p.scores[(first + token) * p.heads + head] = 1 / (1 + expf(-all));
}

// Blocks that share a head's units.
unsigned cluster_of(const Gate& p) {
  unsigned cluster = 1;
  if (has_clusters())
    while (cluster < kMostCluster && p.hidden > static_cast<int>(cluster) * kUnits) cluster *= 2;
  return cluster;
}

template <int kTiles>
void launch(const CudaCall& call, const Gate& p) {
  const unsigned cluster = cluster_of(p);
  const size_t shared = sizeof(__nv_bfloat16) * 8 * kTiles * input_stride(2 * p.dim);
  // Where this fails, so does the launch, and is reported.
  if (shared > 32 * 1024)
    cudaFuncSetAttribute(gate_tokens<kTiles>, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared));
  const dim3 grid(static_cast<unsigned>(p.heads) * cluster, static_cast<unsigned>((p.tokens + 8 * kTiles - 1) / (8 * kTiles)));
  launch_kernel(call, gate_tokens<kTiles>, {grid, kThreads, shared, cluster}, p);
}

kvt_status gate(const CudaCall& call) {
  const int64_t tokens = call.integer(KVT_GATE_INT_TOKENS);
  Gate p{};
  p.heads = static_cast<int>(call.integer(KVT_GATE_INT_KV_HEADS));
  p.dim = static_cast<int>(call.integer(KVT_GATE_INT_HEAD_DIM));
  p.hidden = static_cast<int>(call.integer(KVT_GATE_INT_HIDDEN));
  p.epsilon = static_cast<float>(call.real(KVT_GATE_REAL_EPSILON));
  p.next_ahead = call.next_ahead;
  if (tokens < 1 || tokens > 65535 * 8 || p.heads < 1 || p.hidden < 1 || p.dim < 8 || p.dim % 8 != 0 ||
      p.dim > 512)
    return fail(KVT_INVALID, "gate: expected tokens 1 to %d, kvHeads and hidden 1 or more, headDim a multiple of 8 up to 512",
                65535 * 8);
  p.tokens = static_cast<int>(tokens);
  p.before = call.at<const __nv_bfloat16>(KVT_GATE_REF_BEFORE);
  p.after = call.at<const __nv_bfloat16>(KVT_GATE_REF_AFTER);
  p.norms = call.at<const __nv_bfloat16>(KVT_GATE_REF_NORMS);
  p.w1 = call.at<const __nv_bfloat16>(KVT_GATE_REF_W1);
  p.b1 = call.at<const __nv_bfloat16>(KVT_GATE_REF_B1);
  p.w2 = call.at<const __nv_bfloat16>(KVT_GATE_REF_W2);
  p.b2 = call.at<const __nv_bfloat16>(KVT_GATE_REF_B2);
  p.scores = call.at<float>(KVT_GATE_REF_SCORES);
  for (const __nv_bfloat16* from : {p.before, p.after, p.norms, p.w1})
    if (reinterpret_cast<uintptr_t>(from) % 16 != 0)
      return fail(KVT_INVALID, "gate: before, after, norms and w1 must lie at multiples of 16 bytes");
  // As few tokens a cluster as find their place at once: the weights come from L2 for the others.
  const auto blocks = [&](int tiles) { return int64_t{p.heads} * cluster_of(p) * ((p.tokens + 8 * tiles - 1) / (8 * tiles)); };
  const int64_t places = 2 * call.multiprocessors;
  if (blocks(1) <= places) launch<1>(call, p);
  else if (blocks(2) <= places) launch<2>(call, p);
  else launch<4>(call, p);
  return after_launch("gate");
}

KVT_CUDA_KERNEL_AHEAD(KVT_GATE, gate);

}  // namespace
