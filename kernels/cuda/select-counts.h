// The k highest of rows of small counts, in one launch: a cluster of blocks a row (one block before compute capability
// 9.0). Threads keep 8 counts a 16-byte load in registers where a block's part fits, else they read them again. The count
// at which taking ends is found bit by bit, two comparisons an instruction, or, where blocks share a row, from a table of
// all counts, for which they meet less often. Warps own consecutive positions, so ids come out ascending and ties go to
// the earlier positions without a sort.
#ifndef KVTIER_CUDA_SELECT_COUNTS_H
#define KVTIER_CUDA_SELECT_COUNTS_H

#include <cuda_fp16.h>

#include "cluster-launch.h"
#include "select-digits.h"

namespace kvt {

constexpr int kVectorKeys = 8;
constexpr int kRunKeys = 32 * kVectorKeys;  // of a warp's load
constexpr int kMostVectors = 8;             // of a thread, in registers

struct CountSelection {
  const uint16_t* counts;  // below kBins - 1
  uint32_t* ids;
  int64_t count_stride, id_stride;
  int of, k;
  int slice;  // positions of a block, from the 16 bytes in which the row begins
};

// Two keys in a word: a count plus one, so that 0 is no key.
__device__ __forceinline__ uint32_t low_key(uint32_t pair) { return pair & 0xffff; }
__device__ __forceinline__ uint32_t high_key(uint32_t pair) { return pair >> 16; }

// The part of a row that a warp looks through. Positions count from the 16 bytes in which the row begins: `first` is the
// row's own, `end` behind its last.
template <int kVectors>
struct CountPart {
  static constexpr int kTile = kVectors * kRunKeys;
  const uint16_t* counts;
  int first, end, from, to;
  bool held;
  uint4 keys[kVectors];

  __device__ __forceinline__ CountPart(const CountSelection& t, int64_t row, int rank) {
    const uint16_t* own = t.counts + row * t.count_stride;
    first = static_cast<int>(reinterpret_cast<uintptr_t>(own) % 16 / sizeof(uint16_t));
    counts = own - first;
    end = first + t.of;
    const int begin = min(end, rank * t.slice), stop = min(end, begin + t.slice);
    const int warps = static_cast<int>(blockDim.x) / 32;
    const int per_warp = ((stop - begin + warps - 1) / warps + kTile - 1) / kTile * kTile;
    from = min(stop, begin + static_cast<int>(threadIdx.x) / 32 * per_warp);
    to = min(stop, from + per_warp);
    held = per_warp == kTile;
    if (held) load(from);
  }

  __device__ __forceinline__ uint32_t key_at(int at) const { return at >= first && at < to ? counts[at] + 1u : 0; }

  __device__ __forceinline__ void load(int tile) {
    const int lane = threadIdx.x & 31;
#pragma unroll
    for (int v = 0; v < kVectors; v++) {
      const int at = tile + v * kRunKeys + lane * kVectorKeys;
      uint4& own = keys[v];
      if (at >= first && at + kVectorKeys <= to) {
        own = *reinterpret_cast<const uint4*>(counts + at);
        own.x += 0x10001, own.y += 0x10001, own.z += 0x10001, own.w += 0x10001;
      } else {
        own.x = key_at(at) | key_at(at + 1) << 16;
        own.y = key_at(at + 2) | key_at(at + 3) << 16;
        own.z = key_at(at + 4) | key_at(at + 5) << 16;
        own.w = key_at(at + 6) | key_at(at + 7) << 16;
      }
    }
  }

  // Calls f(eight keys, position of the first) for each load of this thread.
  template <typename F>
  __device__ __forceinline__ void sweep(F f) {
    for (int tile = from; tile < to; tile += kTile) {
      if (!held) load(tile);
#pragma unroll
      for (int v = 0; v < kVectors; v++) {
        // Keys stay packed from sweep to sweep: unpacked ones would not fit into the registers.
        asm volatile("" : "+r"(keys[v].x), "+r"(keys[v].y), "+r"(keys[v].z), "+r"(keys[v].w));
        f(keys[v], tile + v * kRunKeys + static_cast<int>(threadIdx.x & 31) * kVectorKeys);
      }
    }
  }
};

// Bits of two keys as half-precision numbers, which order as the keys do: one instruction compares two.
__device__ __forceinline__ __half2 as_halves(uint32_t pair) { return reinterpret_cast<const __half2&>(pair); }
__device__ __forceinline__ __half2 twice(uint32_t key) { return as_halves(key << 16 | key); }
// Both numbers of a sum of comparisons.
__device__ __forceinline__ uint32_t total(__half2 sums) {
  return static_cast<uint32_t>(__half2int_rz(__low2half(sums)) + __half2int_rz(__high2half(sums)));
}

// How many of eight keys are at least `bound`.
__device__ __forceinline__ __half2 reaching(const uint4& keys, __half2 bound) {
  return __hadd2(__hadd2(__hge2(as_halves(keys.x), bound), __hge2(as_halves(keys.y), bound)),
                 __hadd2(__hge2(as_halves(keys.z), bound), __hge2(as_halves(keys.w), bound)));
}
template <int kVectors>
__device__ __forceinline__ uint32_t reaching(CountPart<kVectors>& part, uint32_t key) {
  const __half2 bound = twice(key);
  uint32_t count = 0;
  // A tile's sum is exact: 8 * kMostVectors / 2 a number.
  __half2 sum = twice(0);
  int added = 0;
  part.sweep([&](const uint4& keys, int) {
    sum = __hadd2(sum, reaching(keys, bound));
    if (++added % kMostVectors != 0) return;
    count += total(sum);
    sum = twice(0);
  });
  return __reduce_add_sync(kAllLanes, count + total(sum));
}

// The largest key that k keys reach, and the number of keys above it, where the row has one block.
template <int kVectors>
__device__ __forceinline__ void find_bits(SelectShared& s, CountPart<kVectors>& part, uint32_t k) {
  const int lane = threadIdx.x & 31;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int warps = static_cast<int>(blockDim.x) / 32;
  uint32_t found = 0, above = 0;
#pragma unroll 1
  for (uint32_t bit = kBins / 2; bit > 0; bit /= 2) {
    uint32_t* sums = (bit & 0x555) != 0 ? s.above : s.ties;
    const uint32_t own = reaching(part, found | bit);
    if (lane == 0) sums[warp] = own;
    __syncthreads();
    const uint32_t all = __reduce_add_sync(kAllLanes, lane < warps ? sums[lane] : 0);
    if (all >= k) found |= bit;
    else above = all;
  }
  // Each bit that was not taken left fewer keys above: the last of them is the count above the key itself.
  if (threadIdx.x == 0) {
    s.bin = found;
    s.over = above;
  }
  __syncthreads();
}

// The same from a table of all keys, which the blocks of the row sum up.
template <int kVectors>
__device__ __forceinline__ void find_in_table(SelectShared& s, CountPart<kVectors>& part, uint32_t k) {
  uint32_t* table = s.bins[0];
  for (int i = threadIdx.x; i < kBins; i += static_cast<int>(blockDim.x)) table[i] = 0;
  arrive_in_row();
  __syncthreads();
  part.sweep([&](const uint4& keys, int) {
#pragma unroll
    for (const uint32_t pair : {keys.x, keys.y, keys.z, keys.w}) {
      // Counts that are too large must not lead outside.
      atomicAdd(table + (pair & (kBins - 1)), 1u);
      atomicAdd(table + (pair >> 16 & (kBins - 1)), 1u);
    }
  });
  // The first block's table must be clear, and it must run, before others add to it.
  wait_for_row();
  if (rank_in_row() > 0) {
    __syncthreads();
    add_to_first(table);
  }
  sync_row();
  if (rank_in_row() == 0) find_bin(s, table, k);
  sync_row();
}

template <int kVectors>
__global__ void __launch_bounds__(1024, 1) select_counts(const CountSelection t) {
  begin_kernel();
  __shared__ SelectShared s;
  const int64_t row = blockIdx.x / blocks_of_row();
  const int lane = threadIdx.x & 31;
  CountPart<kVectors> part(t, row, rank_in_row());
  if (blocks_of_row() > 1)
    find_in_table(s, part, static_cast<uint32_t>(t.k));
  else
    find_bits(s, part, static_cast<uint32_t>(t.k));
  const uint32_t tie = s.bin;
  const uint32_t room = static_cast<uint32_t>(t.k) - s.over;  // for ties
  const uint32_t above = reaching(part, tie + 1);
  Taken before = taken_before(s, {above, reaching(part, tie) - above});
  uint32_t* ids = t.ids + row * t.id_stride;
  part.sweep([&](const uint4& keys, int at) {
    // Both sums over the lanes before at once: neither exceeds the keys of a run.
    const uint32_t here = total(reaching(keys, twice(tie + 1)));
    const uint32_t mine = (total(reaching(keys, twice(tie))) - here) << 16 | here;
    uint32_t sum = mine;
#pragma unroll
    for (int by = 1; by < 32; by *= 2) {
      const uint32_t other = __shfl_up_sync(kAllLanes, sum, by);
      if (lane >= by) sum += other;
    }
    const uint32_t all = __shfl_sync(kAllLanes, sum, 31);
    Taken next{before.above + ((sum - mine) & 0xffff), before.ties + ((sum - mine) >> 16)};
#pragma unroll
    for (int i = 0; i < kVectorKeys; i++) {
      const uint32_t pair = i < 2 ? keys.x : i < 4 ? keys.y : i < 6 ? keys.z : keys.w;
      const uint32_t key = i % 2 == 0 ? low_key(pair) : high_key(pair);
      if (key > tie || (key == tie && next.ties < room)) {
        const uint32_t place = next.above + min(next.ties, room);
        if (place < static_cast<uint32_t>(t.k)) ids[place] = static_cast<uint32_t>(at + i - part.first);
      }
      next.above += key > tie;
      next.ties += key == tie;
    }
    before.above += all & 0xffff;
    before.ties += all >> 16;
  });
}

// 1 <= k <= of <= 2^30.
inline kvt_status select_count_rows(const CudaCall& call, const char* kernel, CountSelection t, int64_t rows) {
  const int cluster = cluster_for<select_counts<kMostVectors>>(call, t.of, rows);
  // A row may begin within 16 bytes.
  const int positions = t.of + kVectorKeys - 1;
  t.slice = ((positions + cluster - 1) / cluster + kVectorKeys - 1) / kVectorKeys * kVectorKeys;
  int threads = kFewestThreads;
  while (threads < 1024 && t.slice > kVectorKeys * threads) threads *= 2;
  const int vectors = (t.slice + kVectorKeys * threads - 1) / (kVectorKeys * threads);
  if (vectors <= 1)
    ClusterLaunch<select_counts<1>>(call, rows, cluster, threads).run(t);
  else if (vectors <= 2)
    ClusterLaunch<select_counts<2>>(call, rows, cluster, threads).run(t);
  else if (vectors <= 4)
    ClusterLaunch<select_counts<4>>(call, rows, cluster, threads).run(t);
  else
    ClusterLaunch<select_counts<kMostVectors>>(call, rows, cluster, threads).run(t);
  return after_launch(kernel);
}

}  // namespace kvt
#endif
