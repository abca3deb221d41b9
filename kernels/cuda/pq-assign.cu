// Codes of keys (calls/pq-assign.ts): a block takes a few keys and reads each centroid once for all of them; the nearest
// wins by the maximum of (score, lower number) packed in 64 bits.
#include "pieces.h"

namespace {

using namespace kvt;

constexpr int kThreads = 256;
constexpr int kKeys = 8;

struct Assignment {
  Pieces keys;
  const float* books;
  uint8_t* codes;
  int64_t from, to, token_stride;
  int dim, subspaces, centroids;
};

__device__ __forceinline__ unsigned long long ranked(float score, int centroid) {
  const uint32_t bits = __float_as_uint(score);
  const uint32_t order = bits ^ ((bits & 0x80000000u) ? 0xffffffffu : 0x80000000u);
  return static_cast<unsigned long long>(order) << 32 | static_cast<uint32_t>(~centroid);
}

__global__ void __launch_bounds__(kThreads) assign(const Assignment p) {
  extern __shared__ unsigned long long best[];  // [kKeys, subspaces], then the keys
  float* keys = reinterpret_cast<float*>(best + kKeys * p.subspaces);
  const int64_t row = blockIdx.y;
  const int channels = p.dim / p.subspaces;
  const int entries = p.subspaces * p.centroids;
  for (int64_t first = p.from + static_cast<int64_t>(blockIdx.x) * kKeys; first < p.to;
       first += static_cast<int64_t>(gridDim.x) * kKeys) {
    for (int i = threadIdx.x; i < kKeys * p.subspaces; i += kThreads) best[i] = 0;
    for (int i = threadIdx.x; i < kKeys * p.dim; i += kThreads) {
      const int64_t token = first + i / p.dim;
      keys[i] = token < p.to ? __bfloat162float(p.keys.at(row, token, p.dim)[i % p.dim]) : 0;
    }
    __syncthreads();
    for (int at = threadIdx.x; at < entries; at += kThreads) {
      const int s = at / p.centroids;
      const float* centroid = p.books + (row * entries + at) * channels;
      const float* part = keys + s * channels;
      float scores[kKeys] = {};
      for (int c = 0; c < channels; c++) {
        const float value = centroid[c];
#pragma unroll
        for (int k = 0; k < kKeys; k++) scores[k] = fmaf(value, part[k * p.dim + c] - 0.5f * value, scores[k]);
      }
#pragma unroll
      for (int k = 0; k < kKeys; k++) atomicMax(best + k * p.subspaces + s, ranked(scores[k], at % p.centroids));
    }
    __syncthreads();
    for (int i = threadIdx.x; i < kKeys * p.subspaces; i += kThreads) {
      const int64_t token = first + i / p.subspaces;
      if (token < p.to)
        p.codes[(row * p.token_stride + token) * p.subspaces + i % p.subspaces] =
            static_cast<uint8_t>(~static_cast<uint32_t>(best[i]));
    }
    __syncthreads();
  }
}

kvt_status pq_assign(const CudaCall& call) {
  Assignment p{};
  const int64_t rows = call.integer(KVT_PQ_ASSIGN_INT_ROWS);
  p.keys = {call.at<const uint8_t>(KVT_PQ_ASSIGN_REF_KEYS), call.at<const uint32_t>(KVT_PQ_ASSIGN_REF_PIECES),
            call.integer(KVT_PQ_ASSIGN_INT_PIECE_VECTORS), call.integer(KVT_PQ_ASSIGN_INT_PIECE_STRIDE),
            call.integer(KVT_PQ_ASSIGN_INT_PIECE_BYTES)};
  p.books = call.at<const float>(KVT_PQ_ASSIGN_REF_BOOKS);
  p.codes = call.at<uint8_t>(KVT_PQ_ASSIGN_REF_CODES);
  p.from = call.integer(KVT_PQ_ASSIGN_INT_FROM);
  p.to = call.integer(KVT_PQ_ASSIGN_INT_TO);
  p.token_stride = call.integer(KVT_PQ_ASSIGN_INT_TOKEN_STRIDE);
  p.dim = static_cast<int>(call.integer(KVT_PQ_ASSIGN_INT_HEAD_DIM));
  p.subspaces = static_cast<int>(call.integer(KVT_PQ_ASSIGN_INT_SUBSPACES));
  p.centroids = static_cast<int>(call.integer(KVT_PQ_ASSIGN_INT_CENTROIDS));
  if (rows < 1 || rows > 65535 || p.from < 0 || p.to <= p.from || p.keys.vectors < 1)
    return fail(KVT_INVALID, "pq-assign: expected rows 1 to 65535, 0 <= from < to and pieceVectors 1 or more");
  if (p.centroids < 1 || p.centroids > 256 || p.subspaces < 1 || p.dim > 1024 || p.dim % p.subspaces != 0)
    return fail(KVT_INVALID, "pq-assign: expected centroids 1 to 256, and subspaces that divide headDim <= 1024");
  const int64_t wanted = (p.to - p.from + kKeys - 1) / kKeys;
  const int64_t most = (8 * call.multiprocessors + rows - 1) / rows;
  const dim3 grid(static_cast<unsigned>(wanted < most ? wanted : most), static_cast<unsigned>(rows));
  const size_t shared = kKeys * (sizeof(unsigned long long) * p.subspaces + sizeof(float) * p.dim);
  if (shared > 48 * 1024)
    cudaFuncSetAttribute(assign, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared));
  assign<<<grid, kThreads, shared, call.stream>>>(p);
  return after_launch("pq-assign");
}

KVT_CUDA_KERNEL(KVT_PQ_ASSIGN, pq_assign);

}  // namespace
