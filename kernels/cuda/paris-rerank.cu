// Estimated q·k of candidates from their 4-bit codes (calls/paris-rerank.ts): a lane takes two subspaces of a candidate, so
// a candidate of dimension 128 takes 8 lanes. What codes mean stands once a lane in shared memory: look-ups never conflict.
// Candidates lie scattered, so that memory gives what is asked for at once: several a lane, on their way while the block
// rotates the query. A block is one turn, and others follow: on an H100 faster than blocks that stay.
#include "launch.h"
#include "paris.h"

namespace {

using namespace kvt;

constexpr int kThreads = 256;
constexpr int kResident = 4;  // blocks of a multiprocessor
constexpr int kAhead = 4;     // candidates of a lane
constexpr int kLaneChannels = 2 * kSubspace;
constexpr int kCodes = 2 * kLevels;

struct Rerank {
  const __nv_bfloat16* queries;
  const float* signs;
  const uint32_t* candidates;
  const uint8_t* codes;
  const uint8_t* weights;
  float* estimates;
  uint4* decoded;
  int64_t count, id_stride, token_stride, estimate_stride, code_stride, weight_stride;
  int group, head_dim;
};

// Codes and weight of a subspace of a candidate.
struct Coded {
  uint32_t codes;
  __half weight;
};

// Product of a subspace's channels with the query's; its values times the weight, as bf16, where `pairs` asks for them.
__device__ __forceinline__ float decode(const Coded& coded, const float* q, const float (*values)[32], uint4* pairs) {
  const int lane = threadIdx.x & 31;
  const float weight = __half2float(coded.weight);
  float own[kSubspace];
  float dot = 0;
#pragma unroll
  for (int c = 0; c < kSubspace; c++) {
    own[c] = values[coded.codes >> (4 * c) & (kCodes - 1)][lane];
    dot = fmaf(q[c], own[c], dot);
  }
  if (pairs != nullptr) {
    uint32_t words[kSubspace / 2];
#pragma unroll
    for (int c = 0; c < kSubspace / 2; c++) {
      const __nv_bfloat162 pair = __floats2bfloat162_rn(own[2 * c] * weight, own[2 * c + 1] * weight);
      words[c] = reinterpret_cast<const uint32_t&>(pair);
    }
    __stcs(pairs, make_uint4(words[0], words[1], words[2], words[3]));
  }
  return dot * weight;
}

template <int kPer>
__global__ void __launch_bounds__(kThreads, kPer < 32 ? kResident : kResident - 1) rerank(const Rerank p) {
  begin_kernel();
  constexpr int kDim = 32 * kPer;
  constexpr int kSubspaces = kDim / kSubspace;
  constexpr int kLanes = kSubspaces / 2 < 32 ? kSubspaces / 2 : 32;  // that share a candidate
  constexpr int kRounds = kSubspaces / (2 * kLanes);
  constexpr int kTogether = kThreads / kLanes;  // candidates of a block at a time
  __shared__ float query[kDim];
  __shared__ float values[kCodes][32];
  const int64_t row = blockIdx.y;
  const int lane = threadIdx.x & 31;
  // The lanes of a candidate take neighbouring subspaces, twice, so that what they write lies side by side.
  const int own = threadIdx.x % kLanes;
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kAhead * kTogether + threadIdx.x / kLanes;
  const uint32_t* candidates = p.candidates + row * p.id_stride;
  const uint8_t* codes = p.codes + row * p.token_stride * p.code_stride;
  const uint8_t* weights = p.weights + row * p.token_stride * p.weight_stride;
  const auto load = [&](uint32_t token, int subspace) {
    return Coded{reinterpret_cast<const uint32_t*>(codes + token * p.code_stride)[subspace],
                 reinterpret_cast<const __half*>(weights + token * p.weight_stride)[subspace]};
  };
  uint32_t tokens[kAhead];
  Coded coded[kAhead][2];
#pragma unroll
  for (int a = 0; a < kAhead; a++) {
    // Past the end the last one again, so that all lanes take part and shuffles meet.
    const int64_t at = first + a * kTogether;
    tokens[a] = candidates[at < p.count ? at : p.count - 1];
  }
#pragma unroll
  for (int a = 0; a < kAhead; a++)
#pragma unroll
    for (int half = 0; half < 2; half++) coded[a][half] = load(tokens[a], half * kLanes + own);
  for (int code = threadIdx.x / 32; code < kCodes; code += kThreads / 32)
    values[code][lane] = code < kLevels ? kCentres[code] : -kCentres[code - kLevels];
  if (threadIdx.x < 32) {
    float x[kPer];
    rotated_query<kPer>(x, p.queries + row * p.group * p.head_dim, p.group, p.head_dim, p.signs);
#pragma unroll
    for (int i = 0; i < kPer; i++) query[lane * kPer + i] = x[i];
  }
  __syncthreads();
  float sums[kAhead] = {};
#pragma unroll
  for (int part = 0; part < kRounds; part++) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const int subspace = (2 * part + half) * kLanes + own;
      float q[kSubspace];
#pragma unroll
      for (int c = 0; c < kSubspace; c++) q[c] = query[subspace * kSubspace + c];
#pragma unroll
      for (int a = 0; a < kAhead; a++) {
        if (part > 0) coded[a][half] = load(tokens[a], subspace);
        const int64_t at = first + a * kTogether;
        const bool writes = p.decoded != nullptr && at < p.count;
        sums[a] += decode(coded[a][half], q, values,
                          writes ? p.decoded + (row * p.count + at) * kSubspaces + subspace : nullptr);
      }
    }
  }
#pragma unroll
  for (int a = 0; a < kAhead; a++) {
#pragma unroll
    for (int by = 1; by < kLanes; by *= 2) sums[a] += __shfl_xor_sync(~0u, sums[a], by);
    const int64_t at = first + a * kTogether;
    if (own == 0 && at < p.count) p.estimates[row * p.estimate_stride + at] = sums[a];
  }
}

kvt_status paris_rerank(const CudaCall& call) {
  Rerank p{};
  const int64_t rows = call.integer(KVT_PARIS_RERANK_INT_ROWS);
  p.queries = call.at<const __nv_bfloat16>(KVT_PARIS_RERANK_REF_QUERIES);
  p.signs = call.at<const float>(KVT_PARIS_RERANK_REF_SIGNS);
  p.candidates = call.at<const uint32_t>(KVT_PARIS_RERANK_REF_CANDIDATES);
  p.codes = call.at<const uint8_t>(KVT_PARIS_RERANK_REF_CODES);
  p.weights = call.at<const uint8_t>(KVT_PARIS_RERANK_REF_WEIGHTS);
  p.estimates = call.at<float>(KVT_PARIS_RERANK_REF_ESTIMATES);
  p.decoded = call.at<uint4>(KVT_PARIS_RERANK_REF_DECODED);
  p.count = call.integer(KVT_PARIS_RERANK_INT_COUNT);
  p.id_stride = call.integer(KVT_PARIS_RERANK_INT_ID_STRIDE);
  p.token_stride = call.integer(KVT_PARIS_RERANK_INT_TOKEN_STRIDE);
  p.estimate_stride = call.integer(KVT_PARIS_RERANK_INT_ESTIMATE_STRIDE);
  p.code_stride = call.integer(KVT_PARIS_RERANK_INT_CODE_STRIDE);
  p.weight_stride = call.integer(KVT_PARIS_RERANK_INT_WEIGHT_STRIDE);
  p.group = static_cast<int>(call.integer(KVT_PARIS_RERANK_INT_GROUP));
  p.head_dim = static_cast<int>(call.integer(KVT_PARIS_RERANK_INT_HEAD_DIM));
  if (rows < 1 || rows > 65535 || p.group < 1 || p.count < 1)
    return fail(KVT_INVALID, "paris-rerank: expected rows 1 to 65535, group and count 1 or more");
  if (p.code_stride % 4 != 0 || p.weight_stride % 2 != 0)
    return fail(KVT_INVALID, "paris-rerank: expected codeStride to be a multiple of 4 and weightStride of 2");
  const int dim = padded_dim(p.head_dim);
  const int64_t turn = kAhead * kThreads / (dim / kLaneChannels < 32 ? dim / kLaneChannels : 32);
  const dim3 grid(static_cast<unsigned>((p.count + turn - 1) / turn), static_cast<unsigned>(rows));
  const bool known = for_padded_dim(dim, [&](auto per) {
    launch_kernel(call, rerank<decltype(per)::value>, {grid, kThreads}, p);
  });
  if (!known) return fail(KVT_INVALID, "paris-rerank: headDim %d, expected 33 to 1024", p.head_dim);
  return after_launch("paris-rerank");
}

KVT_CUDA_KERNEL(KVT_PARIS_RERANK, paris_rerank);

}  // namespace
