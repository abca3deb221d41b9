// The k highest of rows of small counts, in one launch: a cluster of blocks a row (one block before compute capability
// 9.0). Threads keep 8 counts a 16-byte load in registers where a block's part fits, else they read them again. The count
// at which taking ends is found bit by bit in a sample of the row, two comparisons an instruction, and put right by the
// whole row, which it rarely misses by more than one; or, where blocks share a row, from a table of all counts, for which
// they meet less often. Warps own consecutive positions, so ids come out ascending and ties go to the earlier positions
// without a sort.
#ifndef KVTIER_CUDA_SELECT_COUNTS_H
#define KVTIER_CUDA_SELECT_COUNTS_H

#include <cuda_fp16.h>

#include "cluster-launch.h"
#include "select-digits.h"

namespace kvt {

constexpr int kVectorKeys = 8;
constexpr int kRunKeys = 32 * kVectorKeys;  // of a warp's load
constexpr int kMostVectors = 8;             // of a thread, in registers
constexpr int kMostByteVectors = 16;        // the same in bytes
constexpr int kMostTurns = 32;              // until a key is found: two for each of its bits, and some

struct CountSelection {
  const uint16_t* counts;  // below kBins - 1
  uint32_t* ids;
  int64_t count_stride, id_stride;
  int of, k;
  int slice;  // positions of a block, from the 16 bytes in which the row begins
};

// Eight keys of a thread in registers.
struct Pairs {
  uint4 words;

  __device__ __forceinline__ void set(const uint4& keys) { words = keys; }
  // They stay as they are from sweep to sweep: unpacked ones would not fit into the registers.
  __device__ __forceinline__ uint4 get() {
    asm volatile("" : "+r"(words.x), "+r"(words.y), "+r"(words.z), "+r"(words.w));
    return words;
  }
};
// The same in a byte each, larger ones as the largest byte: rows twice as long stay in registers.
struct Bytes {
  static constexpr uint32_t kMost = 255;
  uint2 words;

  static __device__ __forceinline__ uint32_t pack(uint32_t low, uint32_t high) {
    constexpr uint32_t kMosts = kMost << 16 | kMost;
    return __byte_perm(__vminu2(low, kMosts), __vminu2(high, kMosts), 0x6420);
  }
  __device__ __forceinline__ void set(const uint4& keys) { words = {pack(keys.x, keys.y), pack(keys.z, keys.w)}; }
  __device__ __forceinline__ uint4 get() {
    asm volatile("" : "+r"(words.x), "+r"(words.y));
    return {__byte_perm(words.x, 0, 0x4140), __byte_perm(words.x, 0, 0x4342), __byte_perm(words.y, 0, 0x4140),
            __byte_perm(words.y, 0, 0x4342)};
  }
};

// The part of a row that a warp looks through, two keys a word: a count plus one, so that 0 is no key. Positions count from
// the 16 bytes in which the row begins: `first` is the row's own, `end` behind its last.
template <int kVectors, typename Held = Pairs>
struct CountPart {
  static constexpr int kTile = kVectors * kRunKeys;
  const uint16_t* counts;
  int first, end, from, to;
  bool held;
  Held keys[kVectors];

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
      uint4 own;
      if (at >= first && at + kVectorKeys <= to) {
        own = *reinterpret_cast<const uint4*>(counts + at);
        own.x += 0x10001, own.y += 0x10001, own.z += 0x10001, own.w += 0x10001;
      } else {
        own.x = key_at(at) | key_at(at + 1) << 16;
        own.y = key_at(at + 2) | key_at(at + 3) << 16;
        own.z = key_at(at + 4) | key_at(at + 5) << 16;
        own.w = key_at(at + 6) | key_at(at + 7) << 16;
      }
      keys[v].set(own);
    }
  }

  // Calls f(eight keys, position of the first) for each load of this thread.
  template <typename F>
  __device__ __forceinline__ void sweep(F f) {
    for (int tile = from; tile < to; tile += kTile) {
      if (!held) load(tile);
#pragma unroll
      for (int v = 0; v < kVectors; v++)
        f(keys[v].get(), tile + v * kRunKeys + static_cast<int>(threadIdx.x & 31) * kVectorKeys);
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
// The same as a bit each.
__device__ __forceinline__ uint32_t which_reach(const uint4& keys, uint32_t key) {
  const __half2 bound = twice(key);
  const uint32_t words[kVectorKeys / 2] = {keys.x, keys.y, keys.z, keys.w};
  uint32_t bits = 0;
#pragma unroll
  for (int i = 0; i < kVectorKeys / 2; i++)
    bits |= __hge2_mask(as_halves(words[i]), bound) & (0x20001u << (2 * i));
  return (bits | bits >> 16) & 0xff;
}

// How many keys of a warp's part reach a key, and how many the one after it.
struct Reached {
  uint32_t here, above;
};

template <typename Part>
__device__ __forceinline__ Reached reaching(Part& part, uint32_t key) {
  const __half2 bounds[2] = {twice(key), twice(key + 1)};
  uint32_t counts[2] = {};
  // A tile's sums are exact: 8 * kMostVectors / 2 a number.
  __half2 sums[2] = {twice(0), twice(0)};
  int added = 0;
  part.sweep([&](const uint4& keys, int) {
    const bool last = ++added % kMostVectors == 0;
#pragma unroll
    for (int i = 0; i < 2; i++) {
      sums[i] = __hadd2(sums[i], reaching(keys, bounds[i]));
      if (!last) continue;
      counts[i] += total(sums[i]);
      sums[i] = twice(0);
    }
  });
  return {__reduce_add_sync(kAllLanes, counts[0] + total(sums[0])),
          __reduce_add_sync(kAllLanes, counts[1] + total(sums[1]))};
}

// Sums over a block's warps, again and again: tables take turns, so that a sum takes one barrier.
class CountSums {
 public:
  __device__ __forceinline__ explicit CountSums(SelectShared& shared) : s_(shared) {}
  __device__ __forceinline__ Reached of(const Reached& own) {
    const int lane = threadIdx.x & 31;
    const int warp = static_cast<int>(threadIdx.x) / 32;
    const int warps = static_cast<int>(blockDim.x) / 32;
    uint32_t* sums = s_.bins[turn_ ^= 1];
    if (lane == 0) {
      sums[warp] = own.here;
      sums[kMostWarps + warp] = own.above;
    }
    __syncthreads();
    return {__reduce_add_sync(kAllLanes, lane < warps ? sums[lane] : 0),
            __reduce_add_sync(kAllLanes, lane < warps ? sums[kMostWarps + lane] : 0)};
  }

 private:
  SelectShared& s_;
  int turn_ = 0;
};

// The largest key that as large a share of a sample reaches as k is of the row: each warp's first load is the sample.
template <typename Part>
__device__ __forceinline__ uint32_t guess_key(CountSums& sums, Part& part, uint32_t k) {
  if (!part.held && part.from < part.to) part.load(part.from);
  const uint4 sample = part.from < part.to ? part.keys[0].get() : uint4{};
  const auto reached = [&](uint32_t key) {
    return __reduce_add_sync(kAllLanes, total(reaching(sample, twice(key))));
  };
  const Reached all = sums.of({reached(1), 0});
  const uint32_t row = static_cast<uint32_t>(part.end - part.first);
  const uint32_t share = max(1u, static_cast<uint32_t>(static_cast<uint64_t>(k) * all.here / row));
  uint32_t found = 0;
#pragma unroll 1
  for (uint32_t bit = kBins / 2; bit > 0; bit /= 2)
    if (sums.of({reached(found | bit), 0}).here >= share) found |= bit;
  return found;
}

// The largest key that k keys of the row reach, where the row has one block, and what this warp has of it. From the guess
// on in steps that double, then between the two bounds.
template <typename Part>
__device__ __forceinline__ Reached find_from_guess(SelectShared& s, Part& part, uint32_t k) {
  CountSums sums(s);
  uint32_t key = guess_key(sums, part, k);
  uint32_t low = 0, high = kBins, step = 1;  // the key is one of low .. high - 1
#pragma unroll 1
  for (int turn = 1;; turn++) {
    const Reached own = reaching(part, key);
    const Reached all = sums.of(own);
    // Counts that are too large must not hold it up.
    if ((all.here >= k && all.above < k) || turn == kMostTurns) {
      if (threadIdx.x == 0) {
        s.bin = key;
        s.over = all.above;
      }
      __syncthreads();
      return own;
    }
    if (all.here < k) high = key;
    else low = key + 1;
    const bool between = low > 0 && high < kBins;
    if (between) key = (low + high) / 2;
    else if (low > 0) key = min(key + step, kBins - 1u);
    else key = key > step ? key - step : 0;
    step *= 2;
  }
}

// The same from a table of all keys, which the blocks of the row sum up.
template <typename Part>
__device__ __forceinline__ Reached find_in_table(SelectShared& s, Part& part, uint32_t k) {
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
  return reaching(part, s.bin);
}

// Ids of the keys above the one that was found, and of as many that equal it as there is room for.
template <typename Part>
__device__ __forceinline__ void write_chosen(SelectShared& s, const CountSelection& t, int64_t row, Part& part,
                                             const Reached& own) {
  const int lane = threadIdx.x & 31;
  const uint32_t tie = s.bin;
  const uint32_t room = static_cast<uint32_t>(t.k) - s.over;  // for ties
  Taken before = taken_before(s, {own.above, own.here - own.above});
  uint32_t* ids = t.ids + row * t.id_stride;
  part.sweep([&](const uint4& keys, int at) {
    const uint32_t above = which_reach(keys, tie + 1);
    uint32_t ties = which_reach(keys, tie) & ~above;
    // Both sums over the lanes before at once: neither exceeds the keys of a run.
    const uint32_t mine = static_cast<uint32_t>(__popc(ties)) << 16 | static_cast<uint32_t>(__popc(above));
    uint32_t sum = mine;
#pragma unroll
    for (int by = 1; by < 32; by *= 2) {
      const uint32_t other = __shfl_up_sync(kAllLanes, sum, by);
      if (lane >= by) sum += other;
    }
    const uint32_t all = __shfl_sync(kAllLanes, sum, 31);
    const uint32_t ties_before = before.ties + ((sum - mine) >> 16);
    uint32_t place = before.above + ((sum - mine) & 0xffff) + min(ties_before, room);
    if (ties_before >= room) ties = 0;
    else while (ties_before + static_cast<uint32_t>(__popc(ties)) > room) ties &= ~(0x80000000u >> __clz(ties));
    for (uint32_t taken = above | ties; taken != 0; taken &= taken - 1) {
      const int i = __ffs(static_cast<int>(taken)) - 1;
      // Counts that are too large must not lead outside.
      if (place < static_cast<uint32_t>(t.k)) ids[place] = static_cast<uint32_t>(at + i - part.first);
      place++;
    }
    before.above += all & 0xffff;
    before.ties += all >> 16;
  });
}

template <int kVectors>
__device__ __forceinline__ void select_held(SelectShared& s, const CountSelection& t, int64_t row) {
  CountPart<kVectors> part(t, row, rank_in_row());
  const Reached own = blocks_of_row() > 1 ? find_in_table(s, part, static_cast<uint32_t>(t.k))
                                          : find_from_guess(s, part, static_cast<uint32_t>(t.k));
  write_chosen(s, t, row, part, own);
}

template <int kVectors>
__global__ void __launch_bounds__(1024, 1) select_counts(const CountSelection t) {
  begin_kernel();
  __shared__ SelectShared s;
  select_held<kVectors>(s, t, blockIdx.x / blocks_of_row());
}

// One block a row, its keys in bytes; where those don't tell the best apart, as above.
__global__ void __launch_bounds__(1024, 1) select_byte_counts(const CountSelection t) {
  begin_kernel();
  __shared__ SelectShared s;
  const int64_t row = blockIdx.x;
  {
    CountPart<kMostByteVectors, Bytes> part(t, row, 0);
    const Reached own = find_from_guess(s, part, static_cast<uint32_t>(t.k));
    if (s.bin < Bytes::kMost) return write_chosen(s, t, row, part, own);
  }
  __syncthreads();
  select_held<kMostVectors>(s, t, row);
}

// 1 <= k <= of <= 2^30.
inline kvt_status select_count_rows(const CudaCall& call, const char* kernel, CountSelection t, int64_t rows) {
  const int cluster = cluster_for<select_counts<kMostVectors>>(call, t.of, rows);
  // A row may begin within 16 bytes.
  const int positions = t.of + kVectorKeys - 1;
  t.slice = ((positions + cluster - 1) / cluster + kVectorKeys - 1) / kVectorKeys * kVectorKeys;
  // Where rows are many, smaller blocks stand two to a multiprocessor: one loads or writes while the other counts.
  const int most = rows * cluster > call.multiprocessors ? 512 : 1024;
  int threads = kFewestThreads;
  while (threads < most && t.slice > kVectorKeys * threads) threads *= 2;
  const int vectors = (t.slice + kVectorKeys * threads - 1) / (kVectorKeys * threads);
  if (vectors <= 1)
    ClusterLaunch<select_counts<1>>(call, rows, cluster, threads).run(t);
  else if (vectors <= 2)
    ClusterLaunch<select_counts<2>>(call, rows, cluster, threads).run(t);
  else if (vectors <= 4)
    ClusterLaunch<select_counts<4>>(call, rows, cluster, threads).run(t);
  else if (cluster == 1 && vectors > kMostVectors && vectors <= kMostByteVectors)
    ClusterLaunch<select_byte_counts>(call, rows, cluster, threads).run(t);
  else
    ClusterLaunch<select_counts<kMostVectors>>(call, rows, cluster, threads).run(t);
  return after_launch(kernel);
}

}  // namespace kvt
#endif
