// WG-KV's write gate (calls/gate.ts): inputs are normalised, the hidden layer is a product of rows of weights with the
// tokens as queries (row-products.h), and a block a token and head reduces the rest. 32 tokens at a time.
#include "row-products.h"

namespace {

using namespace kvt;

constexpr int kTogether = 32;
constexpr int kThreads = 256;
constexpr unsigned kAllLanes = ~0u;

struct Gate {
  const __nv_bfloat16 *before, *after, *norms, *b1, *w2, *b2;
  __nv_bfloat16* input;  // [heads, tokens, 2 dim]
  float* hidden_layer;   // [heads, tokens, hidden]
  float* scores;         // [all tokens, heads]
  int tokens, heads, dim, hidden;
  float epsilon;
};

__device__ __forceinline__ float sum_of_warp(float value) {
#pragma unroll
  for (int by = 16; by > 0; by /= 2) value += __shfl_xor_sync(kAllLanes, value, by);
  return value;
}

// A warp a key.
__global__ void __launch_bounds__(kThreads) normalise(const Gate p) {
  const int at = blockIdx.x * (kThreads / 32) + threadIdx.x / 32;
  if (at >= 2 * p.tokens * p.heads) return;
  const int half = at & 1;
  const int head = at / 2 % p.heads;
  const int token = at / 2 / p.heads;
  const int lane = threadIdx.x & 31;
  const __nv_bfloat16* key = (half == 0 ? p.before : p.after) + static_cast<int64_t>(token * p.heads + head) * p.dim;
  float square = 0;
  for (int c = lane; c < p.dim; c += 32) {
    const float value = __bfloat162float(key[c]);
    square = fmaf(value, value, square);
  }
  const float inverse = 1 / sqrtf(sum_of_warp(square) / p.dim + p.epsilon);
  __nv_bfloat16* out = p.input + (static_cast<int64_t>(head) * p.tokens + token) * 2 * p.dim + half * p.dim;
  for (int c = lane; c < p.dim; c += 32)
    out[c] = __float2bfloat16(__bfloat162float(key[c]) * inverse * __bfloat162float(p.norms[half * p.dim + c]));
}

__global__ void __launch_bounds__(kThreads) finish(const Gate p) {
  __shared__ float sums[kThreads / 32];
  const int head = blockIdx.x;
  const int token = blockIdx.y;
  const float* units = p.hidden_layer + (static_cast<int64_t>(head) * p.tokens + token) * p.hidden;
  float sum = 0;
  for (int h = threadIdx.x; h < p.hidden; h += kThreads) {
    const float unit = units[h] + __bfloat162float(p.b1[head * p.hidden + h]);
    sum = fmaf(__bfloat162float(p.w2[head * p.hidden + h]), 0.5f * unit * (1 + erff(unit * 0.70710678f)), sum);
  }
  sum = sum_of_warp(sum);
  if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = sum;
  __syncthreads();
  if (threadIdx.x != 0) return;
  float all = __bfloat162float(p.b2[head]);
  for (const float part : sums) all += part;
  p.scores[token * p.heads + head] = 1 / (1 + expf(-all));
}

kvt_status gate(const CudaCall& call) {
  const int64_t tokens = call.integer(KVT_GATE_INT_TOKENS);
  Gate p{};
  p.heads = static_cast<int>(call.integer(KVT_GATE_INT_KV_HEADS));
  p.dim = static_cast<int>(call.integer(KVT_GATE_INT_HEAD_DIM));
  p.hidden = static_cast<int>(call.integer(KVT_GATE_INT_HIDDEN));
  p.epsilon = static_cast<float>(call.real(KVT_GATE_REAL_EPSILON));
  if (tokens < 1 || p.heads < 1 || p.hidden < 1 || p.dim < 8 || p.dim % 8 != 0 || p.dim > 512)
    return fail(KVT_INVALID, "gate: expected tokens, kvHeads and hidden 1 or more, headDim a multiple of 8 up to 512");
  const int64_t input_bytes = static_cast<int64_t>(p.heads) * kTogether * 2 * p.dim * 2;
  const int64_t hidden_bytes = static_cast<int64_t>(p.heads) * kTogether * p.hidden * 4;
  if (static_cast<uint64_t>(input_bytes + hidden_bytes) > call.scratch_bytes)
    return fail(KVT_INVALID, "gate: more heads than the scratch has room for");
  p.norms = call.at<const __nv_bfloat16>(KVT_GATE_REF_NORMS);
  p.b1 = call.at<const __nv_bfloat16>(KVT_GATE_REF_B1);
  p.w2 = call.at<const __nv_bfloat16>(KVT_GATE_REF_W2);
  p.b2 = call.at<const __nv_bfloat16>(KVT_GATE_REF_B2);
  p.input = static_cast<__nv_bfloat16*>(call.scratch);
  p.hidden_layer = reinterpret_cast<float*>(static_cast<uint8_t*>(call.scratch) + input_bytes);
  for (int64_t first = 0; first < tokens; first += kTogether) {
    p.tokens = static_cast<int>(tokens - first < kTogether ? tokens - first : kTogether);
    p.before = call.at<const __nv_bfloat16>(KVT_GATE_REF_BEFORE) + first * p.heads * p.dim;
    p.after = call.at<const __nv_bfloat16>(KVT_GATE_REF_AFTER) + first * p.heads * p.dim;
    p.scores = call.at<float>(KVT_GATE_REF_SCORES) + first * p.heads;
    const int keys = 2 * p.tokens * p.heads;
    normalise<<<(keys + kThreads / 32 - 1) / (kThreads / 32), kThreads, 0, call.stream>>>(p);
    RowProducts layer{};
    layer.queries = reinterpret_cast<const uint16_t*>(p.input);
    layer.vectors = {call.at<const uint8_t>(KVT_GATE_REF_W1), nullptr, p.hidden, 1, int64_t{4} * p.hidden * p.dim};
    layer.scores = p.hidden_layer;
    layer.count = p.hidden;
    layer.score_stride = p.hidden;
    layer.group = p.tokens;
    layer.dim = 2 * p.dim;
    layer.width = 2 * p.dim;
    layer.reduce = kPerQuery;
    layer.scale = 1;
    if (const kvt_status status = score_rows(call, "gate", layer, p.heads)) return status;
    finish<<<dim3(static_cast<unsigned>(p.heads), static_cast<unsigned>(p.tokens)), kThreads, 0, call.stream>>>(p);
  }
  return after_launch("gate");
}

KVT_CUDA_KERNEL(KVT_GATE, gate);

}  // namespace
