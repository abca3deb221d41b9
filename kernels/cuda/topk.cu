// Top-k of rows by radix select (calls/topk.ts): one launch, a cluster of blocks a row. Each block holds its part of the
// row in shared memory (or reads it again where it does not fit), digits of 11 bits are counted per block and summed over
// the cluster, and after at most three digits the k-th highest key is known. Warps own consecutive parts of a row, so
// ids come out ascending and ties go to the earlier positions without a sort.
#include <cooperative_groups.h>

#include "kernel.h"

namespace {

using namespace kvt;
namespace cg = cooperative_groups;

constexpr int kBins = 2048;
constexpr int kDigits = 3;
constexpr int kFewestThreads = 256;
constexpr int kMostWarps = 32;
constexpr unsigned kAll = ~0u;

struct TopK {
  const float* scores;
  const uint32_t* map;
  uint32_t* ids;
  int64_t score_stride, map_stride, id_stride;
  int of, k;
  int slice;  // positions of a block
  bool held;  // in shared memory
};

// Blocks that share a row. Before compute capability 9.0 there are no clusters: one block a row.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
__device__ __forceinline__ int blocks_of_row() { return static_cast<int>(cg::this_cluster().num_blocks()); }
__device__ __forceinline__ int rank_in_row() { return static_cast<int>(cg::this_cluster().block_rank()); }
__device__ __forceinline__ void sync_row() { cg::this_cluster().sync(); }
template <typename T>
__device__ __forceinline__ const T* of_block(const T* shared, int rank) {
  return cg::this_cluster().map_shared_rank(shared, rank);
}
#else
__device__ __forceinline__ int blocks_of_row() { return 1; }
__device__ __forceinline__ int rank_in_row() { return 0; }
__device__ __forceinline__ void sync_row() { __syncthreads(); }
template <typename T>
__device__ __forceinline__ const T* of_block(const T* shared, int) {
  return shared;
}
#endif

// Order-preserving bits; -0 becomes 0.
__device__ __forceinline__ uint32_t key_of(float score) {
  const uint32_t bits = __float_as_uint(score + 0.0f);
  return bits ^ ((bits & 0x80000000u) ? 0xffffffffu : 0x80000000u);
}

struct Shared {
  // Two tables, so that one is cleared while other blocks may still read the other.
  uint32_t bins[2][kBins];
  uint32_t sums[kMostWarps];
  uint32_t above[kMostWarps], ties[kMostWarps];
  uint32_t block_above, block_ties;
  // The bin in which the k-th highest lies, what lies above the bin, and in it.
  uint32_t bin, over, inside;
};

// Sum of a value over the threads before this one.
__device__ uint32_t sum_before(uint32_t value, uint32_t* sums) {
  const int lane = threadIdx.x & 31;
  uint32_t sum = value;
  for (int by = 1; by < 32; by *= 2) {
    const uint32_t other = __shfl_up_sync(kAll, sum, by);
    if (lane >= by) sum += other;
  }
  if (lane == 31) sums[threadIdx.x / 32] = sum;
  __syncthreads();
  const uint32_t of_warp = lane < blockDim.x / 32 && lane < static_cast<int>(threadIdx.x / 32) ? sums[lane] : 0;
  return __reduce_add_sync(kAll, of_warp) + sum - value;
}

// Sums the blocks' tables and finds the bin of the `left`-th highest key, from the highest bin down.
__device__ void find_bin(Shared& s, const uint32_t* table, uint32_t left) {
  constexpr int kMost = kBins / kFewestThreads;
  const int per = kBins / static_cast<int>(blockDim.x);
  const int first = kBins - (static_cast<int>(threadIdx.x) + 1) * per;
  uint32_t counts[kMost] = {};
  uint32_t mine = 0;
  for (int rank = 0; rank < blocks_of_row(); rank++) {
    const uint32_t* other = of_block(table, rank) + first;
#pragma unroll
    for (int i = 0; i < kMost; i++)
      if (i < per) counts[i] += other[i];
  }
#pragma unroll
  for (int i = 0; i < kMost; i++) mine += counts[i];
  uint32_t over = sum_before(mine, s.sums);
#pragma unroll
  for (int i = kMost - 1; i >= 0; i--) {
    if (over < left && left <= over + counts[i]) {
      s.bin = first + i;
      s.over = over;
      s.inside = counts[i];
    }
    over += counts[i];
  }
  __syncthreads();
}

__global__ void __launch_bounds__(1024, 1) select_best(const TopK t) {
  extern __shared__ uint32_t held[];
  __shared__ Shared s;
  const int64_t row = blockIdx.x / blocks_of_row();
  const float* scores = t.scores + row * t.score_stride;
  const int begin = min(t.of, rank_in_row() * t.slice);
  const int count = min(t.of, begin + t.slice) - begin;
  const int threads = static_cast<int>(blockDim.x);
  const int thread = static_cast<int>(threadIdx.x);
  const int lane = thread & 31;
  if (t.held) {
#pragma unroll 8
    for (int i = thread; i < count; i += threads) held[i] = key_of(scores[begin + i]);
  }
  for (int i = thread; i < 2 * kBins; i += threads) s.bins[i / kBins][i % kBins] = 0;
  __syncthreads();
  const auto key_at = [&](int i) { return t.held ? held[i] : key_of(__ldg(scores + begin + i)); };

  uint32_t prefix = 0;
  uint32_t left = static_cast<uint32_t>(t.k);
  int shift = 32;
  bool whole = false;  // true when all keys of the last bin belong to the best
  for (int digit = 0; digit < kDigits && !whole; digit++) {
    const int width = digit < 2 ? 11 : 10;
    shift -= width;
    uint32_t* table = s.bins[digit & 1];
    const int padded = (count + 31) & ~31;
    for (int i = thread; i < padded; i += threads) {
      const uint32_t key = i < count ? key_at(i) : 0;
      const bool counts = i < count && (digit == 0 || key >> (shift + width) == prefix);
      const uint32_t bin = counts ? (key >> shift) & ((1u << width) - 1) : kBins;
      // Equal scores are common (counts, padding): then one addition for the warp.
      int alike;
      __match_all_sync(kAll, bin, &alike);
      if (alike && lane == 0 && counts) atomicAdd(table + bin, 32u);
      if (!alike && counts) atomicAdd(table + bin, 1u);
    }
    sync_row();
    find_bin(s, table, left);
    prefix = prefix << width | s.bin;
    left -= s.over;
    whole = left == s.inside;
    if (digit == 1)
      for (int i = thread; i < kBins; i += threads) s.bins[0][i] = 0;
    __syncthreads();
  }
  const uint32_t least = prefix << shift;
  const uint32_t taken = whole ? 0 : left;  // ties that are taken
  const auto is_above = [&](uint32_t key) { return whole ? key >= least : key > least; };
  const auto is_tie = [&](uint32_t key) { return !whole && key == least; };

  const int warps = threads / 32;
  const int warp = thread / 32;
  const int part = ((count + warps - 1) / warps + 31) & ~31;
  const int from = min(count, warp * part);
  const int to = min(count, from + part);
  uint32_t above = 0, ties = 0;
  for (int i = from + lane; i < to; i += 32) {
    const uint32_t key = key_at(i);
    above += is_above(key);
    ties += is_tie(key);
  }
  above = __reduce_add_sync(kAll, above);
  ties = __reduce_add_sync(kAll, ties);
  if (lane == 0) {
    s.above[warp] = above;
    s.ties[warp] = ties;
  }
  __syncthreads();
  // Before this warp in its block, and (by the first warp) of the block as a whole.
  above = __reduce_add_sync(kAll, lane < warp ? s.above[lane] : 0);
  ties = __reduce_add_sync(kAll, lane < warp ? s.ties[lane] : 0);
  if (warp == 0) {
    const uint32_t all_above = __reduce_add_sync(kAll, lane < warps ? s.above[lane] : 0);
    const uint32_t all_ties = __reduce_add_sync(kAll, lane < warps ? s.ties[lane] : 0);
    s.block_above = all_above;
    s.block_ties = all_ties;
  }
  sync_row();
  for (int rank = 0; rank < rank_in_row(); rank++) {
    above += *of_block(&s.block_above, rank);
    ties += *of_block(&s.block_ties, rank);
  }
  sync_row();  // a block must not end while others read its shared memory

  uint32_t* ids = t.ids + row * t.id_stride;
  const uint32_t* map = t.map == nullptr ? nullptr : t.map + row * t.map_stride;
  for (int i = from + lane; i - lane < to; i += 32) {
    const uint32_t key = i < to ? key_at(i) : 0;
    const unsigned best = __ballot_sync(kAll, i < to && is_above(key));
    const unsigned equal = __ballot_sync(kAll, i < to && is_tie(key));
    const unsigned before = (1u << lane) - 1;
    const uint32_t ties_here = ties + __popc(equal & before);
    const bool takes = (best >> lane & 1) != 0 || ((equal >> lane & 1) != 0 && ties_here < taken);
    if (takes) {
      const uint32_t place = above + __popc(best & before) + min(ties_here, taken);
      const uint32_t position = static_cast<uint32_t>(begin + i);
      ids[place] = map == nullptr ? position : map[position];
    }
    above += __popc(best);
    ties += __popc(equal);
  }
}

constexpr int kMostCluster = 8;
// A row is shared by blocks of at least this many positions: summing tables over a cluster takes about as long.
constexpr int kSharedSlice = 8192;
constexpr int kRoom = 200 * 1024;

kvt_status topk(const CudaCall& call) {
  TopK t{};
  const int64_t rows = call.integer(KVT_TOPK_INT_ROWS);
  const int64_t of = call.integer(KVT_TOPK_INT_OF);
  const int64_t k = call.integer(KVT_TOPK_INT_K);
  if (rows < 1 || k < 1 || of < k || of > (1 << 30) || rows > (1 << 27))
    return fail(KVT_INVALID, "topk: expected rows 1 or more and 1 <= k <= of <= 2^30");
  t.scores = call.at<const float>(KVT_TOPK_REF_SCORES);
  t.map = call.at<const uint32_t>(KVT_TOPK_REF_MAP);
  t.ids = call.at<uint32_t>(KVT_TOPK_REF_IDS);
  t.score_stride = call.integer(KVT_TOPK_INT_SCORE_STRIDE);
  t.map_stride = call.integer(KVT_TOPK_INT_MAP_STRIDE);
  t.id_stride = call.integer(KVT_TOPK_INT_ID_STRIDE);
  t.of = static_cast<int>(of);
  t.k = static_cast<int>(k);
  int device = 0, major = 0;
  if (cudaGetDevice(&device) != cudaSuccess ||
      cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) != cudaSuccess ||
      cudaFuncSetAttribute(select_best, cudaFuncAttributeMaxDynamicSharedMemorySize, major >= 9 ? kRoom : 0) != cudaSuccess)
    return after_launch("topk");
  int cluster = 1;
  while (major >= 9 && cluster < kMostCluster && of > static_cast<int64_t>(cluster) * kSharedSlice &&
         rows * cluster < call.multiprocessors)
    cluster *= 2;
  const int64_t room = major >= 9 ? kRoom : 28 * 1024;
  while (major >= 9 && cluster < kMostCluster && 4 * of > cluster * room) cluster *= 2;
  t.slice = static_cast<int>(((of + cluster - 1) / cluster + 31) & ~31);
  t.held = 4 * static_cast<int64_t>(t.slice) <= room;
  int threads = kFewestThreads;
  while (threads < 1024 && threads * 8 < t.slice) threads *= 2;
  cudaLaunchConfig_t launch{};
  launch.gridDim = dim3(static_cast<unsigned>(rows * cluster));
  launch.blockDim = dim3(static_cast<unsigned>(threads));
  launch.dynamicSmemBytes = t.held ? 4 * static_cast<size_t>(t.slice) : 0;
  launch.stream = call.stream;
  cudaLaunchAttribute shape{};
  shape.id = cudaLaunchAttributeClusterDimension;
  shape.val.clusterDim = {static_cast<unsigned>(cluster), 1, 1};
  launch.attrs = &shape;
  launch.numAttrs = cluster > 1 ? 1 : 0;
  cudaLaunchKernelEx(&launch, select_best, t);
  return after_launch("topk");
}

KVT_CUDA_KERNEL(KVT_TOPK, topk);

}  // namespace
