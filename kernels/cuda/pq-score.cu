// Estimated products from product codes (calls/pq-score.ts): the queries' products with all centroids stand in shared
// memory, keys look them up; the blocks of a cluster make a part of the table each and give it to the others. Where the
// table of all queries is too large, queries take turns.
#include <cuda_bf16.h>

#include "launch.h"
#include "row-blocks.h"

namespace {

using namespace kvt;

// Order as REDUCE of group-scores.ts.
enum Reduce : int { kPerQuery, kMax, kMean, kSum };

constexpr int kThreads = 256;
constexpr int kKeys = 4;
constexpr int kRoom = 96 * 1024;

constexpr int kTogether = 4;
// What every device with clusters promises.
constexpr unsigned kMostCluster = 8;

__device__ __forceinline__ float product(float a, float b, float sum) { return fmaf(a, b, sum); }
__device__ __forceinline__ float product(float4 a, float4 b, float sum) {
  return fmaf(a.w, b.w, fmaf(a.z, b.z, fmaf(a.y, b.y, fmaf(a.x, b.x, sum))));
}

struct PqScores {
  const __nv_bfloat16* queries;
  const float* books;
  const uint8_t* codes;
  float* scores;
  int64_t count, token_stride, score_stride;
  int group, together, dim, subspaces, centroids, reduce;
  float scale;
};

// This block's part of the products of queries [first, first + queries) with all centroids of the row, in the tables
// [queries, subspaces, centroids] of all blocks that share it. Queries lie in shared memory; where the part has an entry
// for each thread, a thread reads its centroid once for kTogether queries.
template <typename V>
__device__ void fill_table(const PqScores& p, int64_t row, int first, int queries, float* table, const float* query) {
  constexpr int kWords = sizeof(V) / 4;
  const int channels = p.dim / p.subspaces;
  const int entries = p.subspaces * p.centroids;
  const int blocks = blocks_of_row();
  const int share = (entries + blocks - 1) / blocks;
  const int per = share >= kThreads ? kTogether : 1;
  for (int at = threadIdx.x; at < share * ((queries + per - 1) / per); at += kThreads) {
    const int entry = rank_in_row() * share + at % share;
    const int from = at / share * per;
    if (entry >= entries) continue;
    const V* centroid = reinterpret_cast<const V*>(p.books + (row * entries + entry) * channels);
    const float* part = query + entry / p.centroids * channels;
    float sums[kTogether] = {};
#pragma unroll 8
    for (int c = 0; c < channels / kWords; c++) {
      const V values = centroid[c];
#pragma unroll
      for (int q = 0; q < kTogether; q++) {
        if (q >= per || from + q >= queries) break;
        const V of_query = *reinterpret_cast<const V*>(part + (from + q) * p.dim + c * kWords);
        sums[q] = product(values, of_query, sums[q]);
      }
    }
    for (int block = 0; block < blocks; block++)
#pragma unroll
      for (int q = 0; q < kTogether; q++)
        if (q < per && from + q < queries) of_block(table, block)[(from + q) * entries + entry] = p.scale * sums[q];
  }
}

// kBytes: codes of a key read in one load (1, 2 or 4), 0 = one by one.
template <int kBytes>
__global__ void __launch_bounds__(kThreads) score_codes(const PqScores p) {
  begin_kernel();
  extern __shared__ __align__(16) float query[];  // [together, dim], then the table
  float* table = query + p.together * p.dim;
  const int64_t row = blockIdx.y;
  const int entries = p.subspaces * p.centroids;
  const uint8_t* codes = p.codes + row * p.token_stride * p.subspaces;
  const int64_t step = static_cast<int64_t>(gridDim.x) * kThreads * kKeys;
  for (int first = 0; first < p.group; first += p.together) {
    const int queries = min(p.together, p.group - first);
    // No block writes to another that has not begun, or still reads its table.
    sync_row();
    for (int i = threadIdx.x; i < queries * p.dim; i += kThreads)
      query[i] = __bfloat162float(p.queries[(row * p.group + first) * p.dim + i]);
    __syncthreads();
    if (p.dim / p.subspaces % 4 == 0)
      fill_table<float4>(p, row, first, queries, table, query);
    else
      fill_table<float>(p, row, first, queries, table, query);
    sync_row();
    for (int64_t base = static_cast<int64_t>(blockIdx.x) * kThreads * kKeys + threadIdx.x; base < p.count; base += step) {
      uint32_t own[kKeys] = {};
      float joined[kKeys];
      if (kBytes > 0) {
#pragma unroll
        for (int k = 0; k < kKeys; k++) {
          const int64_t key = base + k * kThreads;
          if (key >= p.count) continue;
          if (kBytes == 4) own[k] = reinterpret_cast<const uint32_t*>(codes)[key];
          if (kBytes == 2) own[k] = reinterpret_cast<const uint16_t*>(codes)[key];
          if (kBytes == 1) own[k] = codes[key];
        }
      }
      for (int q = 0; q < queries; q++) {
        const float* products = table + q * entries;
#pragma unroll
        for (int k = 0; k < kKeys; k++) {
          const int64_t key = base + k * kThreads;
          if (key >= p.count) continue;
          float sum = 0;
          if (kBytes > 0) {
#pragma unroll
            for (int s = 0; s < (kBytes > 0 ? kBytes : 1); s++) sum += products[s * p.centroids + (own[k] >> (8 * s) & 255)];
          } else {
            for (int s = 0; s < p.subspaces; s++) sum += products[s * p.centroids + codes[key * p.subspaces + s]];
          }
          if (p.reduce == kPerQuery)
            p.scores[(row * p.group + first + q) * p.score_stride + key] = sum;
          else
            joined[k] = q == 0 ? sum : p.reduce == kMax ? fmaxf(joined[k], sum) : joined[k] + sum;
        }
      }
      if (p.reduce == kPerQuery) continue;
#pragma unroll
      for (int k = 0; k < kKeys; k++) {
        const int64_t key = base + k * kThreads;
        if (key >= p.count) continue;
        float* out = p.scores + row * p.score_stride + key;
        float value = joined[k];
        // The same thread wrote what earlier queries left there.
        if (first > 0) value = p.reduce == kMax ? fmaxf(*out, value) : *out + value;
        *out = p.reduce == kMean && first + queries == p.group ? value / p.group : value;
      }
    }
  }
}

template <int kBytes>
void launch(const CudaCall& call, const PqScores& p, dim3 grid, size_t shared) {
  // Where this fails, so does the launch, and is reported.
  if (shared > 48 * 1024)
    cudaFuncSetAttribute(score_codes<kBytes>, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared));
  unsigned cluster = has_clusters() ? kMostCluster : 1;
  while (cluster > grid.x) cluster /= 2;
  launch_kernel(call, score_codes<kBytes>, {dim3(grid.x / cluster * cluster, grid.y), kThreads, shared, cluster}, p);
}

kvt_status pq_score(const CudaCall& call) {
  PqScores p{};
  const int64_t rows = call.integer(KVT_PQ_SCORE_INT_ROWS);
  p.queries = call.at<const __nv_bfloat16>(KVT_PQ_SCORE_REF_QUERIES);
  p.books = call.at<const float>(KVT_PQ_SCORE_REF_BOOKS);
  p.codes = call.at<const uint8_t>(KVT_PQ_SCORE_REF_CODES);
  p.scores = call.at<float>(KVT_PQ_SCORE_REF_SCORES);
  p.count = call.integer(KVT_PQ_SCORE_INT_COUNT);
  p.token_stride = call.integer(KVT_PQ_SCORE_INT_TOKEN_STRIDE);
  p.score_stride = call.integer(KVT_PQ_SCORE_INT_SCORE_STRIDE);
  p.group = static_cast<int>(call.integer(KVT_PQ_SCORE_INT_GROUP));
  p.dim = static_cast<int>(call.integer(KVT_PQ_SCORE_INT_HEAD_DIM));
  p.subspaces = static_cast<int>(call.integer(KVT_PQ_SCORE_INT_SUBSPACES));
  p.centroids = static_cast<int>(call.integer(KVT_PQ_SCORE_INT_CENTROIDS));
  p.reduce = static_cast<int>(call.integer(KVT_PQ_SCORE_INT_REDUCE));
  p.scale = static_cast<float>(call.real(KVT_PQ_SCORE_REAL_SCALE));
  if (rows < 1 || rows > 65535 || p.group < 1 || p.count < 1 || p.centroids < 1 || p.centroids > 256)
    return fail(KVT_INVALID, "pq-score: expected rows 1 to 65535, group and count 1 or more, centroids 1 to 256");
  if (p.subspaces < 1 || p.dim % p.subspaces != 0) return fail(KVT_INVALID, "pq-score: subspaces must divide headDim");
  const int64_t query_bytes = (static_cast<int64_t>(p.subspaces) * p.centroids + p.dim) * 4;
  if (query_bytes > kRoom) return fail(KVT_INVALID, "pq-score: subspaces x centroids + headDim, expected 24576 or fewer");
  p.together = static_cast<int>(kRoom / query_bytes < p.group ? kRoom / query_bytes : p.group);
  const int64_t wanted = (p.count + kThreads * kKeys - 1) / (kThreads * kKeys);
  const int64_t most = (2 * call.multiprocessors + rows - 1) / rows;
  const dim3 grid(static_cast<unsigned>(wanted < most ? wanted : most), static_cast<unsigned>(rows));
  const size_t shared = static_cast<size_t>(p.together * query_bytes);
  const bool aligned = reinterpret_cast<uintptr_t>(p.codes) % 4 == 0;
  if (reinterpret_cast<uintptr_t>(p.books) % 16 != 0) return fail(KVT_INVALID, "pq-score: books not aligned to 16 bytes");
  if (p.subspaces == 1)
    launch<1>(call, p, grid, shared);
  else if (p.subspaces == 2 && aligned)
    launch<2>(call, p, grid, shared);
  else if (p.subspaces == 4 && aligned)
    launch<4>(call, p, grid, shared);
  else
    launch<0>(call, p, grid, shared);
  return after_launch("pq-score");
}

KVT_CUDA_KERNEL(KVT_PQ_SCORE, pq_score);

}  // namespace
