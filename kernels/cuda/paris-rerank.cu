// Estimated q·k of candidates from their 4-bit codes (calls/paris-rerank.ts): a lane takes 16 channels of a candidate, so a
// candidate of dimension 128 takes 8 lanes. The centres stand once a lane in shared memory: look-ups never conflict.
#include "launch.h"
#include "paris.h"

namespace {

using namespace kvt;

constexpr int kThreads = 256;
constexpr int kLaneChannels = 16;

struct Rerank {
  const __nv_bfloat16* queries;
  const float* signs;
  const uint32_t* candidates;
  const uint2* codes;  // of 16 channels
  const __half2* weights;
  float* estimates;
  uint4* decoded;
  int64_t count, id_stride, token_stride, estimate_stride;
  int group, head_dim;
};

template <int kPer>
__global__ void __launch_bounds__(kThreads) rerank(const Rerank p) {
  begin_kernel();
  constexpr int kDim = 32 * kPer;
  constexpr int kParts = kDim / kLaneChannels;               // of a candidate
  constexpr int kLanes = kParts < 32 ? kParts : 32;          // that share it
  constexpr int kTogether = kThreads / kLanes;               // candidates of a block at a time
  __shared__ float query[kDim];
  __shared__ float centres[kLevels][32];
  const int64_t row = blockIdx.y;
  const int lane = threadIdx.x & 31;
  centres[threadIdx.x / 32][lane] = kCentres[threadIdx.x / 32];
  if (threadIdx.x < 32) {
    float x[kPer];
    rotated_query<kPer>(x, p.queries + row * p.group * p.head_dim, p.group, p.head_dim, p.signs);
#pragma unroll
    for (int i = 0; i < kPer; i++) query[lane * kPer + i] = x[i];
  }
  __syncthreads();
  const int own = threadIdx.x % kLanes;
  float q[kLaneChannels];
#pragma unroll
  for (int c = 0; c < kLaneChannels; c++) q[c] = query[own * kLaneChannels + c];
  const uint32_t* candidates = p.candidates + row * p.id_stride;
  const int64_t step = static_cast<int64_t>(gridDim.x) * kTogether;
  const auto token_at = [&](int64_t i) {
    return row * p.token_stride + candidates[i < p.count ? i : p.count - 1];
  };
  // The codes of the next candidate and the number of the one after it are on their way while one is decoded.
  int64_t i = static_cast<int64_t>(blockIdx.x) * kTogether + threadIdx.x / kLanes;
  int64_t token = token_at(i);
  uint2 next_codes = p.codes[token * kParts + own];
  __half2 next_weights = p.weights[token * kParts + own];
  int64_t next_token = token_at(i + step);
  // The same number of rounds for all lanes, so that shuffles meet.
  for (int64_t round = (p.count + step - 1) / step; round > 0; round--, i += step) {
    const bool inside = i < p.count;
    uint2 codes = next_codes;
    float2 weights = __half22float2(next_weights);
    const int64_t this_token = token;
    token = next_token;
    next_codes = p.codes[token * kParts + own];
    next_weights = p.weights[token * kParts + own];
    next_token = token_at(i + 2 * step);
    float sum = 0;
#pragma unroll
    for (int part = 0; part < kParts; part += kLanes) {
      if (kParts > kLanes) {
#pragma unroll
        for (int c = 0; c < kLaneChannels; c++) q[c] = query[(part + own) * kLaneChannels + c];
        codes = p.codes[this_token * kParts + part + own];
        weights = __half22float2(p.weights[this_token * kParts + part + own]);
      }
      uint32_t pairs[kLaneChannels / 2];
#pragma unroll
      for (int b = 0; b < 2; b++) {
        const uint32_t word = b == 0 ? codes.x : codes.y;
        const float weight = b == 0 ? weights.x : weights.y;
        float dot = 0;
        float values[kSubspace];
#pragma unroll
        for (int c = 0; c < kSubspace; c++) {
          const uint32_t code = word >> (4 * c);
          const float centre = centres[code & 7][lane];
          values[c] = __uint_as_float(__float_as_uint(centre) | (code & 8) << 28);
          dot = fmaf(q[b * kSubspace + c], values[c], dot);
        }
        sum = fmaf(dot, weight, sum);
        if (p.decoded != nullptr)
#pragma unroll
          for (int c = 0; c < kSubspace / 2; c++) {
            const __nv_bfloat162 pair = __floats2bfloat162_rn(values[2 * c] * weight, values[2 * c + 1] * weight);
            pairs[b * kSubspace / 2 + c] = reinterpret_cast<const uint32_t&>(pair);
          }
      }
      if (p.decoded != nullptr && inside) {
        uint4* out = p.decoded + ((row * p.count + i) * kParts + part + own) * 2;
        out[0] = make_uint4(pairs[0], pairs[1], pairs[2], pairs[3]);
        out[1] = make_uint4(pairs[4], pairs[5], pairs[6], pairs[7]);
      }
    }
#pragma unroll
    for (int by = 1; by < kLanes; by *= 2) sum += __shfl_xor_sync(~0u, sum, by);
    if (own == 0 && inside) p.estimates[row * p.estimate_stride + i] = sum;
  }
}

kvt_status paris_rerank(const CudaCall& call) {
  Rerank p{};
  const int64_t rows = call.integer(KVT_PARIS_RERANK_INT_ROWS);
  p.queries = call.at<const __nv_bfloat16>(KVT_PARIS_RERANK_REF_QUERIES);
  p.signs = call.at<const float>(KVT_PARIS_RERANK_REF_SIGNS);
  p.candidates = call.at<const uint32_t>(KVT_PARIS_RERANK_REF_CANDIDATES);
  p.codes = call.at<const uint2>(KVT_PARIS_RERANK_REF_CODES);
  p.weights = call.at<const __half2>(KVT_PARIS_RERANK_REF_WEIGHTS);
  p.estimates = call.at<float>(KVT_PARIS_RERANK_REF_ESTIMATES);
  p.decoded = call.at<uint4>(KVT_PARIS_RERANK_REF_DECODED);
  p.count = call.integer(KVT_PARIS_RERANK_INT_COUNT);
  p.id_stride = call.integer(KVT_PARIS_RERANK_INT_ID_STRIDE);
  p.token_stride = call.integer(KVT_PARIS_RERANK_INT_TOKEN_STRIDE);
  p.estimate_stride = call.integer(KVT_PARIS_RERANK_INT_ESTIMATE_STRIDE);
  p.group = static_cast<int>(call.integer(KVT_PARIS_RERANK_INT_GROUP));
  p.head_dim = static_cast<int>(call.integer(KVT_PARIS_RERANK_INT_HEAD_DIM));
  if (rows < 1 || rows > 65535 || p.group < 1 || p.count < 1)
    return fail(KVT_INVALID, "paris-rerank: expected rows 1 to 65535, group and count 1 or more");
  const int dim = padded_dim(p.head_dim);
  const int64_t together = kThreads / (dim / kLaneChannels < 32 ? dim / kLaneChannels : 32);
  const int64_t wanted = (p.count + together - 1) / together;
  const int64_t most = (4 * call.multiprocessors + rows - 1) / rows;
  const dim3 grid(static_cast<unsigned>(wanted < most ? wanted : most), static_cast<unsigned>(rows));
  const bool known = for_padded_dim(dim, [&](auto per) {
    launch_kernel(call, rerank<decltype(per)::value>, {grid, kThreads}, p);
  });
  if (!known) return fail(KVT_INVALID, "paris-rerank: headDim %d, expected 33 to 1024", p.head_dim);
  return after_launch("paris-rerank");
}

KVT_CUDA_KERNEL(KVT_PARIS_RERANK, paris_rerank);

}  // namespace
