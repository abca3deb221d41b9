// Estimated q·k of candidates from their 4-bit codes (calls/paris-rerank.ts): a lane takes two subspaces of a candidate, so
// a candidate of dimension 128 takes 8 lanes. What codes mean stands once a lane in shared memory: look-ups never conflict.
// Candidates lie scattered, so that memory gives what is asked for at once: several a lane.
#include "launch.h"
#include "paris.h"
#include "row-split.h"

namespace {

using namespace kvt;

constexpr int kThreads = 256;
constexpr int kResident = 3;  // blocks of a multiprocessor
constexpr int kAhead = 4;     // candidates of a lane on their way at a time
constexpr int kLaneChannels = 2 * kSubspace;
constexpr int kCodes = 2 * kLevels;

struct Rerank {
  const __nv_bfloat16* queries;
  const float* signs;
  const uint32_t* candidates;
  const uint32_t* codes;  // of a subspace
  const __half* weights;
  float* estimates;
  uint4* decoded;
  int64_t count, id_stride, token_stride, estimate_stride;
  int group, head_dim;
};

// Codes and weight of a subspace of a candidate; several are on their way while one is decoded.
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
__global__ void __launch_bounds__(kThreads, kResident) rerank(const Rerank p) {
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
  for (int code = threadIdx.x / 32; code < kCodes; code += kThreads / 32)
    values[code][lane] = code < kLevels ? kCentres[code] : -kCentres[code - kLevels];
  if (threadIdx.x < 32) {
    float x[kPer];
    rotated_query<kPer>(x, p.queries + row * p.group * p.head_dim, p.group, p.head_dim, p.signs);
#pragma unroll
    for (int i = 0; i < kPer; i++) query[lane * kPer + i] = x[i];
  }
  __syncthreads();
  // The lanes of a candidate take neighbouring subspaces, twice, so that what they write lies side by side.
  const int own = threadIdx.x % kLanes;
  float q[2][kSubspace];
#pragma unroll
  for (int half = 0; half < 2; half++)
#pragma unroll
    for (int c = 0; c < kSubspace; c++) q[half][c] = query[(half * kLanes + own) * kSubspace + c];
  const uint32_t* candidates = p.candidates + row * p.id_stride;
  const int64_t step = static_cast<int64_t>(gridDim.x) * kTogether;
  // Past the end the last one again, so that all lanes take as many rounds and shuffles meet.
  const auto token_at = [&](int64_t i) { return candidates[i < p.count ? i : p.count - 1]; };
  const uint32_t* codes = p.codes + row * p.token_stride * kSubspaces;
  const __half* weights = p.weights + row * p.token_stride * kSubspaces;
  const auto load = [&](uint32_t token, int subspace) {
    const int64_t at = static_cast<int64_t>(token) * kSubspaces + subspace;
    return Coded{codes[at], weights[at]};
  };
  // The codes of the next candidates and the numbers of those after them are on their way while some are decoded.
  int64_t i = static_cast<int64_t>(blockIdx.x) * kTogether + threadIdx.x / kLanes;
  uint32_t tokens[kAhead], next_tokens[kAhead];
  Coded next[kAhead][2];
#pragma unroll
  for (int a = 0; a < kAhead; a++) tokens[a] = token_at(i + a * step);
#pragma unroll
  for (int a = 0; a < kAhead; a++) {
    next[a][0] = load(tokens[a], own);
    next[a][1] = load(tokens[a], kLanes + own);
    next_tokens[a] = token_at(i + (kAhead + a) * step);
  }
  // `first`: the block's first candidate, of which lanes of a warp agree.
  for (int64_t first = static_cast<int64_t>(blockIdx.x) * kTogether; first < p.count; first += kAhead * step) {
    Coded coded[kAhead][2];
    uint32_t here[kAhead];
#pragma unroll
    for (int a = 0; a < kAhead; a++) {
      coded[a][0] = next[a][0];
      coded[a][1] = next[a][1];
      here[a] = tokens[a];
      tokens[a] = next_tokens[a];
      next[a][0] = load(tokens[a], own);
      next[a][1] = load(tokens[a], kLanes + own);
      next_tokens[a] = token_at(i + (2 * kAhead + a) * step);
    }
#pragma unroll
    for (int a = 0; a < kAhead; a++) {
      if (first + a * step >= p.count) break;
      const int64_t at = i + a * step;
      const bool inside = at < p.count;
      float sum = 0;
#pragma unroll
      for (int part = 0; part < kRounds; part++) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
          const int subspace = (2 * part + half) * kLanes + own;
          if (kRounds > 1) {
            coded[a][half] = load(here[a], subspace);
#pragma unroll
            for (int c = 0; c < kSubspace; c++) q[half][c] = query[subspace * kSubspace + c];
          }
          const bool writes = p.decoded != nullptr && inside;
          sum += decode(coded[a][half], q[half], values,
                        writes ? p.decoded + (row * p.count + at) * kSubspaces + subspace : nullptr);
        }
      }
#pragma unroll
      for (int by = 1; by < kLanes; by *= 2) sum += __shfl_xor_sync(~0u, sum, by);
      if (own == 0 && inside) p.estimates[row * p.estimate_stride + at] = sum;
    }
    i += kAhead * step;
  }
}

kvt_status paris_rerank(const CudaCall& call) {
  Rerank p{};
  const int64_t rows = call.integer(KVT_PARIS_RERANK_INT_ROWS);
  p.queries = call.at<const __nv_bfloat16>(KVT_PARIS_RERANK_REF_QUERIES);
  p.signs = call.at<const float>(KVT_PARIS_RERANK_REF_SIGNS);
  p.candidates = call.at<const uint32_t>(KVT_PARIS_RERANK_REF_CANDIDATES);
  p.codes = call.at<const uint32_t>(KVT_PARIS_RERANK_REF_CODES);
  p.weights = call.at<const __half>(KVT_PARIS_RERANK_REF_WEIGHTS);
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
  const dim3 grid(blocks_for_row(call, rows, wanted, kResident), static_cast<unsigned>(rows));
  const bool known = for_padded_dim(dim, [&](auto per) {
    launch_kernel(call, rerank<decltype(per)::value>, {grid, kThreads}, p);
  });
  if (!known) return fail(KVT_INVALID, "paris-rerank: headDim %d, expected 33 to 1024", p.head_dim);
  return after_launch("paris-rerank");
}

KVT_CUDA_KERNEL(KVT_PARIS_RERANK, paris_rerank);

}  // namespace
