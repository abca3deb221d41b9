// Codes of keys (calls/pq-assign.ts): a block takes a few keys; a thread reads a centroid once for all of them, and the
// nearest wins by the maximum of (score, lower number) packed in 64 bits.
#include "launch.h"
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

// centroid · (key - centroid / 2): the nearest centroid has the most.
__device__ __forceinline__ float nearness(float a, float key, float sum) { return fmaf(a, key - 0.5f * a, sum); }
__device__ __forceinline__ float nearness(float4 a, float4 key, float sum) {
  return nearness(a.w, key.w, nearness(a.z, key.z, nearness(a.y, key.y, nearness(a.x, key.x, sum))));
}

template <typename V>
__device__ __forceinline__ void score(const Assignment& p, int64_t entry, int channels, const float* part,
                                      float (&scores)[kKeys]) {
  constexpr int kWords = sizeof(V) / 4;
  const V* centroid = reinterpret_cast<const V*>(p.books + entry * channels);
#pragma unroll 8
  for (int c = 0; c < channels / kWords; c++) {
    const V values = centroid[c];
#pragma unroll
    for (int k = 0; k < kKeys; k++)
      scores[k] = nearness(values, *reinterpret_cast<const V*>(part + k * p.dim + c * kWords), scores[k]);
  }
}

__global__ void __launch_bounds__(kThreads) assign(const Assignment p) {
  begin_kernel();
  extern __shared__ __align__(16) float keys[];  // [kKeys, dim], then the nearest [kKeys, subspaces]
  auto* best = reinterpret_cast<unsigned long long*>(keys + kKeys * p.dim);
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
      float scores[kKeys] = {};
      if (channels % 4 == 0)
        score<float4>(p, row * entries + at, channels, keys + s * channels, scores);
      else
        score<float>(p, row * entries + at, channels, keys + s * channels, scores);
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
  if (reinterpret_cast<uintptr_t>(p.books) % 16 != 0) return fail(KVT_INVALID, "pq-assign: books not aligned to 16 bytes");
  const int64_t wanted = (p.to - p.from + kKeys - 1) / kKeys;
  const int64_t most = (8 * call.multiprocessors + rows - 1) / rows;
  const dim3 grid(static_cast<unsigned>(wanted < most ? wanted : most), static_cast<unsigned>(rows));
  const size_t shared = kKeys * (sizeof(unsigned long long) * p.subspaces + sizeof(float) * p.dim);
  if (shared > 48 * 1024)
    cudaFuncSetAttribute(assign, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared));
  launch_kernel(call, assign, {grid, kThreads, shared}, p);
  return after_launch("pq-assign");
}

KVT_CUDA_KERNEL(KVT_PQ_ASSIGN, pq_assign);

}  // namespace
