// ParisKV's index of keys (calls/paris-encode.ts): a warp a key.
#include "launch.h"
#include "paris.h"
#include "pieces.h"

namespace {

using namespace kvt;

constexpr int kWarps = 8;

struct Encoding {
  Pieces keys;
  const float* signs;
  uint8_t* ids;
  uint8_t* codes;
  uint8_t* weights;
  uint32_t* counts;
  int64_t from, to, token_stride, code_stride, weight_stride;
  int head_dim;
};

__device__ __constant__ float kThresholds[kLevels - 1] = {0.0843f, 0.1698f, 0.2578f, 0.3499f, 0.4487f, 0.5585f, 0.6901f};

template <int kLanes>
__device__ __forceinline__ float sum_of(float value) {
#pragma unroll
  for (int by = 1; by < kLanes; by *= 2) value += __shfl_xor_sync(~0u, value, by);
  return value;
}

template <int kLanes>
__device__ __forceinline__ uint32_t union_of(uint32_t value) {
#pragma unroll
  for (int by = 1; by < kLanes; by *= 2) value |= __shfl_xor_sync(~0u, value, by);
  return value;
}

template <int kPer>
__global__ void __launch_bounds__(32 * kWarps) encode_keys(const Encoding p) {
  begin_kernel();
  constexpr int kParts = kPer < kSubspace ? kPer : kSubspace;  // channels of a subspace in one lane
  constexpr int kLanes = kSubspace / kParts;                   // lanes that share a subspace
  constexpr int kSubspaces = 32 * kPer / kSubspace;
  const int lane = threadIdx.x & 31;
  const int64_t row = blockIdx.y;
  for (int64_t token = p.from + blockIdx.x * kWarps + threadIdx.x / 32; token < p.to;
       token += static_cast<int64_t>(gridDim.x) * kWarps) {
    const __nv_bfloat16* key = p.keys.at(row, token, p.head_dim);
    float x[kPer];
#pragma unroll
    for (int i = 0; i < kPer; i++) x[i] = lane * kPer + i < p.head_dim ? __bfloat162float(key[lane * kPer + i]) : 0;
    rotate<kPer>(x, p.signs);
#pragma unroll
    for (int part = 0; part < kPer; part += kParts) {
      const int shift = lane % kLanes * kParts;  // of this lane's channels in the subspace
      float square = 0;
#pragma unroll
      for (int i = 0; i < kParts; i++) square += x[part + i] * x[part + i];
      const float norm = sqrtf(sum_of<kLanes>(square));
      const float inverse = norm == 0 ? 0 : 1 / norm;
      float agreement = 0;
      uint32_t codes = 0, pattern = 0;
#pragma unroll
      for (int i = 0; i < kParts; i++) {
        const float size = fabsf(x[part + i]) * inverse;
        uint32_t level = 0;
#pragma unroll
        for (int t = 0; t < kLevels - 1; t++) level += size > kThresholds[t];
        agreement += size * kCentres[level];
        const uint32_t negative = x[part + i] < 0;
        codes |= (negative << 3 | level) << (4 * (shift + i));
        pattern |= negative << (shift + i);
      }
      agreement = sum_of<kLanes>(agreement);
      codes = union_of<kLanes>(codes);
      pattern = union_of<kLanes>(pattern);
      if (lane % kLanes != 0) continue;
      const int subspace = (lane * kPer + part) / kSubspace;
      const int64_t at = row * p.token_stride + token;
      p.ids[at * kSubspaces + subspace] = static_cast<uint8_t>(pattern);
      reinterpret_cast<uint32_t*>(p.codes + at * p.code_stride)[subspace] = codes;
      reinterpret_cast<__half*>(p.weights + at * p.weight_stride)[subspace] =
          __float2half(agreement == 0 ? 0 : norm / agreement);
      atomicAdd(p.counts + (row * kSubspaces + subspace) * kPatterns + pattern, 1u);
    }
  }
}

kvt_status paris_encode(const CudaCall& call) {
  Encoding p{};
  const int64_t rows = call.integer(KVT_PARIS_ENCODE_INT_ROWS);
  p.keys = {call.at<const uint8_t>(KVT_PARIS_ENCODE_REF_KEYS), call.at<const uint32_t>(KVT_PARIS_ENCODE_REF_PIECES),
            call.integer(KVT_PARIS_ENCODE_INT_PIECE_VECTORS), call.integer(KVT_PARIS_ENCODE_INT_PIECE_STRIDE),
            call.integer(KVT_PARIS_ENCODE_INT_PIECE_BYTES)};
  p.signs = call.at<const float>(KVT_PARIS_ENCODE_REF_SIGNS);
  p.ids = call.at<uint8_t>(KVT_PARIS_ENCODE_REF_IDS);
  p.codes = call.at<uint8_t>(KVT_PARIS_ENCODE_REF_CODES);
  p.weights = call.at<uint8_t>(KVT_PARIS_ENCODE_REF_WEIGHTS);
  p.counts = call.at<uint32_t>(KVT_PARIS_ENCODE_REF_COUNTS);
  p.from = call.integer(KVT_PARIS_ENCODE_INT_FROM);
  p.to = call.integer(KVT_PARIS_ENCODE_INT_TO);
  p.head_dim = static_cast<int>(call.integer(KVT_PARIS_ENCODE_INT_HEAD_DIM));
  p.token_stride = call.integer(KVT_PARIS_ENCODE_INT_TOKEN_STRIDE);
  p.code_stride = call.integer(KVT_PARIS_ENCODE_INT_CODE_STRIDE);
  p.weight_stride = call.integer(KVT_PARIS_ENCODE_INT_WEIGHT_STRIDE);
  if (rows < 1 || rows > 65535 || p.from < 0 || p.to <= p.from || p.keys.vectors < 1)
    return fail(KVT_INVALID, "paris-encode: expected rows 1 to 65535, 0 <= from < to and pieceVectors 1 or more");
  if (p.code_stride % 4 != 0 || p.weight_stride % 2 != 0)
    return fail(KVT_INVALID, "paris-encode: expected codeStride to be a multiple of 4 and weightStride of 2");
  const int64_t wanted = (p.to - p.from + kWarps - 1) / kWarps;
  const int64_t most = (16 * call.multiprocessors + rows - 1) / rows;
  const dim3 grid(static_cast<unsigned>(wanted < most ? wanted : most), static_cast<unsigned>(rows));
  const bool known = for_padded_dim(padded_dim(p.head_dim), [&](auto per) {
    launch_kernel(call, encode_keys<decltype(per)::value>, {grid, 32 * kWarps}, p);
  });
  if (!known) return fail(KVT_INVALID, "paris-encode: headDim %d, expected 33 to 1024", p.head_dim);
  return after_launch("paris-encode");
}

KVT_CUDA_KERNEL(KVT_PARIS_ENCODE, paris_encode);

}  // namespace
