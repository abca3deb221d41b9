// The best k of rows of scores by radix select, in one launch: a cluster of blocks a row (one block before compute
// capability 9.0). Threads keep their keys in registers where a block's part fits, else they read it again for each
// sweep; digits of 11 bits are counted per block and summed over the cluster. Warps own consecutive positions, so ids come
// out ascending and ties go to the earlier positions without a sort.
#ifndef KVTIER_CUDA_SELECT_H
#define KVTIER_CUDA_SELECT_H

#include "cluster-launch.h"
#include "select-digits.h"

namespace kvt {

// Keys order as scores do; 0 is no key (a place past the row's end).
struct FloatScore {
  using Type = float;
  static constexpr int kBits = 32;
  static __device__ __forceinline__ uint32_t key(float score) {
    const uint32_t bits = __float_as_uint(score + 0.0f);  // -0 becomes 0
    return bits ^ ((bits & 0x80000000u) ? 0xffffffffu : 0x80000000u);
  }
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

// The part of a row that a warp looks through, tile by tile; its keys stay in registers where one tile holds them all.
template <typename Score, int kKeys>
struct Part {
  static constexpr int kTile = 32 * kKeys;
  const typename Score::Type* scores;
  int from, to;
  bool held;
  Tile<Score, kKeys> tile;

  __device__ __forceinline__ Part(const typename Score::Type* row, int begin, int end) : scores(row) {
    const int warps = static_cast<int>(blockDim.x) / 32;
    const int per_warp = ((end - begin + warps - 1) / warps + kTile - 1) / kTile * kTile;
    from = min(end, begin + static_cast<int>(threadIdx.x) / 32 * per_warp);
    to = min(end, from + per_warp);
    held = per_warp == kTile;
    if (held) tile.load(scores, from, to);
  }

  // Calls f(position of the tile) with its keys loaded.
  template <typename F>
  __device__ __forceinline__ void sweep(F f) {
    for (int at = from; at < to; at += kTile) {
      if (!held) tile.load(scores, at, to);
      f(at);
    }
  }
};

// Keys from `least` on are taken, and of those equal to `tie` the first `taken`.
struct Threshold {
  uint32_t least, tie, taken;
};

__device__ inline void clear(uint32_t* table) {
  for (int i = threadIdx.x; i < kBins; i += static_cast<int>(blockDim.x)) table[i] = 0;
}

// Stops at the digit from which on at most `most` keys are taken, of which the best k are some.
template <typename Score, typename Keys>
__device__ __forceinline__ Threshold find_threshold(SelectShared& s, Keys& part, uint32_t k, uint32_t most) {
  const int rank = rank_in_row();
  uint32_t prefix = 0;
  uint32_t left = k;
  int shift = Score::kBits;
  bool whole = false;  // true when all keys of the last bin belong to the best
  clear(s.bins[0]);
  clear(s.bins[1]);
  arrive_in_row();
  __syncthreads();
  for (int digit = 0; shift > 0 && !whole; digit++) {
    const int width = shift > 11 ? 11 : shift;
    shift -= width;
    uint32_t* table = s.bins[digit & 1];
    part.sweep([&](int) { part.tile.count(table, prefix, shift, width); });
    // The first block's tables must be clear, and it must run, before others add to them.
    if (digit == 0) wait_for_row();
    if (rank > 0) {
      __syncthreads();
      add_to_first(table);
    }
    sync_row();
    if (rank == 0) find_bin(s, table, left);
    if (digit == 1) clear(s.bins[0]);
    sync_row();
    prefix = prefix << width | s.bin;
    left -= s.over;
    whole = left == s.inside || k - left + s.inside <= most;
  }
  if (whole) return {prefix << shift, 0xffffffffu, 0};
  return {prefix + 1, prefix, left};
}

// How many keys before a warp's part are above the threshold, and how many are ties; and how many in the part.
struct Counts {
  uint32_t above, ties, own_above, own_ties;
};

template <typename Score, int kKeys>
__device__ __forceinline__ Counts count_before(SelectShared& s, Part<Score, kKeys>& part, const Threshold& limit) {
  uint32_t own_above = 0, own_ties = 0;
  part.sweep([&](int) {
#pragma unroll
    for (int j = 0; j < kKeys; j++) {
      own_above += part.tile.keys[j] >= limit.least;
      own_ties += part.tile.keys[j] == limit.tie;
    }
  });
  own_above = __reduce_add_sync(kAllLanes, own_above);
  own_ties = __reduce_add_sync(kAllLanes, own_ties);
  const Taken before = taken_before(s, {own_above, own_ties});
  return {before.above, before.ties, own_above, own_ties};
}

template <typename Score, int kKeys>
__device__ void select_all(SelectShared& s, const Selection<Score>& t) {
  const int64_t row = blockIdx.x / blocks_of_row();
  const int begin = min(t.of, rank_in_row() * t.slice);
  Part<Score, kKeys> part(t.scores + row * t.score_stride, begin, min(t.of, begin + t.slice));
  const Threshold limit = find_threshold<Score>(s, part, static_cast<uint32_t>(t.k), 0);
  Counts counts = count_before(s, part, limit);
  if (counts.own_above == 0 && (counts.own_ties == 0 || counts.ties >= limit.taken)) return;
  uint32_t* ids = t.ids + row * t.id_stride;
  const uint32_t* map = t.map == nullptr ? nullptr : t.map + row * t.map_stride;
  const int lane = threadIdx.x & 31;
  const unsigned before = (1u << lane) - 1;
  part.sweep([&](int at) {
#pragma unroll
    for (int j = 0; j < kKeys; j++) {
      const bool best = part.tile.keys[j] >= limit.least;
      const bool equal = part.tile.keys[j] == limit.tie;
      const unsigned all_best = __ballot_sync(kAllLanes, best);
      const unsigned all_equal = __ballot_sync(kAllLanes, equal);
      if ((all_best | all_equal) == 0) continue;
      const uint32_t ties_here = counts.ties + __popc(all_equal & before);
      if (best || (equal && ties_here < limit.taken)) {
        const uint32_t place = counts.above + __popc(all_best & before) + min(ties_here, limit.taken);
        const uint32_t position = static_cast<uint32_t>(at + 32 * j + lane);
        // Scores that are not numbers must not lead outside.
        if (place < static_cast<uint32_t>(t.k)) ids[place] = map == nullptr ? position : map[position];
      }
      counts.above += __popc(all_best);
      counts.ties += __popc(all_equal);
    }
  });
}

template <typename Score, int kKeys>
__global__ void __launch_bounds__(1024, 1) select_best(const Selection<Score> t) {
  begin_kernel();
  __shared__ SelectShared s;
  select_all<Score, kKeys>(s, t);
}

// 1 <= k <= of <= 2^30.
template <typename Score>
kvt_status select_rows(const CudaCall& call, const char* kernel, Selection<Score> t, int64_t rows) {
  const int cluster = cluster_for<select_best<Score, 16>>(call, t.of, rows);
  t.slice = static_cast<int>(((t.of + cluster - 1) / cluster + 31) & ~31);
  int threads = kFewestThreads;
  // Where rows are many, smaller blocks find their place two to a multiprocessor.
  const int keys = rows * cluster > call.multiprocessors ? 16 : 8;
  while (threads < 1024 && t.slice > keys * threads) threads *= 2;
  if (t.slice <= 4 * threads)
    ClusterLaunch<select_best<Score, 4>>(call, rows, cluster, threads).run(t);
  else if (t.slice <= 8 * threads)
    ClusterLaunch<select_best<Score, 8>>(call, rows, cluster, threads).run(t);
  else
    ClusterLaunch<select_best<Score, 16>>(call, rows, cluster, threads).run(t);
  return after_launch(kernel);
}

}  // namespace kvt
#endif
