// The best k of rows of scores by radix select, in one launch: a cluster of blocks a row (one block before compute
// capability 9.0). Threads keep their keys in registers where a block's part fits, else they read it again for each
// sweep; digits of 11 bits are counted per block and summed over the cluster. Warps own consecutive positions, so ids come
// out ascending and ties go to the earlier positions without a sort.
#ifndef KVTIER_CUDA_SELECT_H
#define KVTIER_CUDA_SELECT_H

#include <cooperative_groups.h>

#include "block-sum.h"

namespace kvt {

constexpr int kBins = 2048;
constexpr int kFewestThreads = 256;

// Keys order as scores do; 0 is no key (a place past the row's end).
struct FloatScore {
  using Type = float;
  static constexpr int kBits = 32;
  static __device__ __forceinline__ uint32_t key(float score) {
    const uint32_t bits = __float_as_uint(score + 0.0f);  // -0 becomes 0
    return bits ^ ((bits & 0x80000000u) ? 0xffffffffu : 0x80000000u);
  }
};
// Small counts, below 2047.
struct CountScore {
  using Type = uint16_t;
  static constexpr int kBits = 11;
  static __device__ __forceinline__ uint32_t key(uint16_t score) { return score + 1u; }
};

template <typename Score>
struct Selection {
  const typename Score::Type* scores;
  const uint32_t* map;  // null: ids are positions
  uint32_t* ids;
  int64_t score_stride, map_stride, id_stride;
  int of, k;
  int slice;  // positions of a block
};

// Blocks that share a row.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
__device__ __forceinline__ int blocks_of_row() {
  return static_cast<int>(cooperative_groups::this_cluster().num_blocks());
}
__device__ __forceinline__ int rank_in_row() {
  return static_cast<int>(cooperative_groups::this_cluster().block_rank());
}
__device__ __forceinline__ void sync_row() { cooperative_groups::this_cluster().sync(); }
template <typename T>
__device__ __forceinline__ const T* of_block(const T* shared, int rank) {
  return cooperative_groups::this_cluster().map_shared_rank(shared, rank);
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

struct SelectShared {
  // Two tables, so that one is cleared while other blocks may still read the other.
  uint32_t bins[2][kBins];
  uint32_t sums[kMostWarps];
  uint32_t above[kMostWarps], ties[kMostWarps];
  uint32_t block_above, block_ties;
  // The bin in which the k-th highest lies, what lies above the bin, and in it.
  uint32_t bin, over, inside;
};

// Sums the blocks' tables and finds the bin of the `left`-th highest key, from the highest bin down.
__device__ inline void find_bin(SelectShared& s, const uint32_t* table, uint32_t left) {
  constexpr int kMost = kBins / kFewestThreads;
  const int per = kBins / static_cast<int>(blockDim.x);
  const int first = kBins - (static_cast<int>(threadIdx.x) + 1) * per;
  const int blocks = blocks_of_row();
  uint32_t counts[kMost] = {};
  uint32_t mine = 0;
#pragma unroll 4
  for (int rank = 0; rank < blocks; rank++) {
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

// A warp's keys of one tile, kKeys a thread: key j of a lane lies at 32 j + lane of the warp's positions.
template <typename Score, int kKeys>
struct Tile {
  uint32_t keys[kKeys];

  __device__ __forceinline__ void load(const typename Score::Type* scores, int from, int end) {
    typename Score::Type raw[kKeys];
    const int lane = threadIdx.x & 31;
#pragma unroll
    for (int j = 0; j < kKeys; j++)
      if (from + 32 * j + lane < end) raw[j] = scores[from + 32 * j + lane];
#pragma unroll
    for (int j = 0; j < kKeys; j++) keys[j] = from + 32 * j + lane < end ? Score::key(raw[j]) : 0;
  }

  // Counts digits of the keys that begin with `prefix` above `shift + width`.
  __device__ __forceinline__ void count(uint32_t* table, uint32_t prefix, int shift, int width) const {
#pragma unroll
    for (int j = 0; j < kKeys; j++) {
      const bool counts = keys[j] != 0 && (shift + width == Score::kBits || keys[j] >> (shift + width) == prefix);
      const uint32_t bin = (keys[j] >> shift) & ((1u << width) - 1);
      // Equal scores are common (counts, floors): then one addition for the warp.
      const uint32_t first = __shfl_sync(kAllLanes, bin, 0);
      if (__all_sync(kAllLanes, counts && bin == first)) {
        if ((threadIdx.x & 31) == 0) atomicAdd(table + bin, 32u);
      } else if (counts) {
        atomicAdd(table + bin, 1u);
      }
    }
  }
};

template <typename Score, int kKeys>
__global__ void __launch_bounds__(1024, 1) select_best(const Selection<Score> t) {
  __shared__ SelectShared s;
  const int64_t row = blockIdx.x / blocks_of_row();
  const typename Score::Type* scores = t.scores + row * t.score_stride;
  const int begin = min(t.of, rank_in_row() * t.slice);
  const int end = min(t.of, begin + t.slice);
  const int thread = static_cast<int>(threadIdx.x);
  const int warps = static_cast<int>(blockDim.x) / 32;
  const int warp = thread / 32;
  const int lane = thread & 31;
  // The warp's positions: whole tiles, one after another.
  constexpr int kTile = 32 * kKeys;
  const int per_warp = ((end - begin + warps - 1) / warps + kTile - 1) / kTile * kTile;
  const int from = min(end, begin + warp * per_warp);
  const int to = min(end, from + per_warp);
  const bool held = per_warp == kTile;
  Tile<Score, kKeys> tile;
  if (held) tile.load(scores, from, to);
  for (int i = thread; i < 2 * kBins; i += static_cast<int>(blockDim.x)) s.bins[i / kBins][i % kBins] = 0;
  __syncthreads();

  uint32_t prefix = 0;
  uint32_t left = static_cast<uint32_t>(t.k);
  int shift = Score::kBits;
  bool whole = false;  // true when all keys of the last bin belong to the best
  for (int digit = 0; shift > 0 && !whole; digit++) {
    const int width = shift > 11 ? 11 : shift;
    shift -= width;
    uint32_t* table = s.bins[digit & 1];
    for (int at = from; at < to; at += kTile) {
      if (!held) tile.load(scores, at, to);
      tile.count(table, prefix, shift, width);
    }
    sync_row();
    find_bin(s, table, left);
    prefix = prefix << width | s.bin;
    left -= s.over;
    whole = left == s.inside;
    if (digit == 1)
      for (int i = thread; i < kBins; i += static_cast<int>(blockDim.x)) s.bins[0][i] = 0;
    __syncthreads();
  }
  // Keys from `least` on are taken, and of those equal to `tie` the first `left`.
  const uint32_t tie = whole ? 0xffffffffu : prefix;
  const uint32_t least = whole ? prefix << shift : prefix + 1;
  const uint32_t taken = whole ? 0 : left;

  uint32_t above = 0, ties = 0;
  for (int at = from; at < to; at += kTile) {
    if (!held) tile.load(scores, at, to);
#pragma unroll
    for (int j = 0; j < kKeys; j++) {
      above += tile.keys[j] >= least;
      ties += tile.keys[j] == tie;
    }
  }
  above = __reduce_add_sync(kAllLanes, above);
  ties = __reduce_add_sync(kAllLanes, ties);
  if (lane == 0) {
    s.above[warp] = above;
    s.ties[warp] = ties;
  }
  __syncthreads();
  const uint32_t warp_above = above;
  const uint32_t warp_ties = ties;
  const uint32_t other_above = lane < warps ? s.above[lane] : 0;
  const uint32_t other_ties = lane < warps ? s.ties[lane] : 0;
  above = __reduce_add_sync(kAllLanes, lane < warp ? other_above : 0);
  ties = __reduce_add_sync(kAllLanes, lane < warp ? other_ties : 0);
  if (thread == static_cast<int>(blockDim.x) - 1) {
    s.block_above = above + warp_above;
    s.block_ties = ties + warp_ties;
  }
  sync_row();
  const int rank = rank_in_row();
  above += __reduce_add_sync(kAllLanes, lane < rank ? *of_block(&s.block_above, lane) : 0);
  ties += __reduce_add_sync(kAllLanes, lane < rank ? *of_block(&s.block_ties, lane) : 0);
  sync_row();  // a block must not end while others read its shared memory

  uint32_t* ids = t.ids + row * t.id_stride;
  const uint32_t* map = t.map == nullptr ? nullptr : t.map + row * t.map_stride;
  const unsigned before = (1u << lane) - 1;
  if (warp_above == 0 && (warp_ties == 0 || ties >= taken)) return;
  for (int at = from; at < to; at += kTile) {
    if (!held) tile.load(scores, at, to);
#pragma unroll
    for (int j = 0; j < kKeys; j++) {
      const bool best = tile.keys[j] >= least;
      const bool equal = tile.keys[j] == tie;
      const unsigned all_best = __ballot_sync(kAllLanes, best);
      const unsigned all_equal = __ballot_sync(kAllLanes, equal);
      if ((all_best | all_equal) == 0) continue;
      const uint32_t ties_here = ties + __popc(all_equal & before);
      if (best || (equal && ties_here < taken)) {
        const uint32_t place = above + __popc(all_best & before) + min(ties_here, taken);
        const uint32_t position = static_cast<uint32_t>(at + 32 * j + lane);
        ids[place] = map == nullptr ? position : map[position];
      }
      above += __popc(all_best);
      ties += __popc(all_equal);
    }
  }
}

// A row is shared by blocks of at least this many positions: summing tables over a cluster takes about as long.
constexpr int kSharedSlice = 8192;

template <typename Score, int kKeys>
struct SelectLaunch {
  cudaLaunchConfig_t config{};
  cudaLaunchAttribute shape{};

  SelectLaunch(const CudaCall& call, int64_t rows, int cluster, int threads) {
    config.gridDim = dim3(static_cast<unsigned>(rows * cluster));
    config.blockDim = dim3(static_cast<unsigned>(threads));
    config.stream = call.stream;
    shape.id = cudaLaunchAttributeClusterDimension;
    shape.val.clusterDim = {static_cast<unsigned>(cluster), 1, 1};
    config.attrs = &shape;
    config.numAttrs = cluster > 1 ? 1 : 0;
    if (cluster > 8)
      cudaFuncSetAttribute(select_best<Score, kKeys>, cudaFuncAttributeNonPortableClusterSizeAllowed, 1);
  }
  // Clusters that find their place at once; 0 where the shape can't run at all.
  int together() const {
    int clusters = 0;
    if (cudaOccupancyMaxActiveClusters(&clusters, select_best<Score, kKeys>, &config) != cudaSuccess) clusters = 0;
    cudaGetLastError();
    return clusters;
  }
  void run(const Selection<Score>& t) { cudaLaunchKernelEx(&config, select_best<Score, kKeys>, t); }
};

// Blocks for a row: more while its part of a row is long and multiprocessors are idle.
template <typename Score>
int cluster_for(const CudaCall& call, int of, int64_t rows) {
  int device = 0, major = 0, cluster = 1;
  if (cudaGetDevice(&device) != cudaSuccess ||
      cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) != cudaSuccess || major < 9)
    return 1;
  while (cluster < 16 && of > static_cast<int64_t>(cluster) * kSharedSlice && rows * cluster < call.multiprocessors)
    cluster *= 2;
  // 16 blocks are more than every device promises, and pay only where all rows find their place at once.
  if (cluster == 16 && SelectLaunch<Score, 16>(call, rows, cluster, 1024).together() < rows) cluster = 8;
  return cluster;
}

// 1 <= k <= of <= 2^30.
template <typename Score>
kvt_status select_rows(const CudaCall& call, const char* kernel, Selection<Score> t, int64_t rows) {
  const int cluster = cluster_for<Score>(call, t.of, rows);
  t.slice = static_cast<int>(((t.of + cluster - 1) / cluster + 31) & ~31);
  int threads = kFewestThreads;
  while (threads < 1024 && t.slice > 8 * threads) threads *= 2;
  if (t.slice <= 4 * threads)
    SelectLaunch<Score, 4>(call, rows, cluster, threads).run(t);
  else if (t.slice <= 8 * threads)
    SelectLaunch<Score, 8>(call, rows, cluster, threads).run(t);
  else
    SelectLaunch<Score, 16>(call, rows, cluster, threads).run(t);
  return after_launch(kernel);
}

}  // namespace kvt
#endif
