// The best k of long rows of floats, where k is a small part of the row: the k-th highest of the maxima of groups bounds the
// k-th highest score from below, so that after one pass few scores are left (the idea: Zhang et al., Parallel Top-K
// Algorithms on GPU, SC 2023, doi:10.1145/3581784.3607062, who filter by a digit). One launch, a cluster of blocks a row;
// a bit a position puts the ids in order. Where too many scores are left (equal ones, say), select_all does it.
#ifndef KVTIER_CUDA_SELECT_FEW_H
#define KVTIER_CUDA_SELECT_FEW_H

#include "launch.h"
#include "select.h"

namespace kvt {

constexpr int kGroup = 8;
constexpr int kChunk = 32 * kGroup;  // positions of a warp's groups
constexpr int kFewThreads = 1024;
constexpr int kMostCandidates = 8192;
constexpr int kMostGathered = 16384;

struct SelectFew {
  Selection<FloatScore> selection;
  int chunks;      // of a thread's group
  int candidates;  // that a block has room for, and groups
  int gathered;    // keys that the first block of a row has room for
  bool aligned;    // rows begin at multiples of 16 bytes
};

struct FewShared {
  uint32_t groups, candidates, gathered;
  Threshold limit;
};

// Eight scores: four from `at` on, four from 128 later; the lowest where the row has ended.
__device__ __forceinline__ void load_group(float (&scores)[kGroup], const float* row, int at, int end, bool aligned) {
#pragma unroll
  for (int half = 0; half < 2; half++) {
    const int first = at + 128 * half;
    float* to = scores + 4 * half;
    if (aligned && first + 4 <= end) {
      const float4 four = __ldg(reinterpret_cast<const float4*>(row + first));
      to[0] = four.x, to[1] = four.y, to[2] = four.z, to[3] = four.w;
    } else {
#pragma unroll
      for (int i = 0; i < 4; i++) to[i] = first + i < end ? __ldg(row + first + i) : -INFINITY;
    }
  }
}

// The maxima of a thread's groups, as keys; 0 where a group has no scores.
template <int kGroups>
struct Maxima {
  Tile<FloatScore, kGroups> tile;

  template <typename F>
  __device__ __forceinline__ void sweep(F f) {
    f(0);
  }
  __device__ __forceinline__ void load(const float* row, int from, int end, int chunks, bool aligned) {
    float most[kGroups];
#pragma unroll
    for (int g = 0; g < kGroups; g++) most[g] = -INFINITY;
    for (int c = 0; c < chunks; c++)
#pragma unroll
      for (int g = 0; g < kGroups; g++) {
        float scores[kGroup];
        load_group(scores, row, from + (g * chunks + c) * kChunk, end, aligned);
#pragma unroll
        for (int i = 0; i < kGroup; i++) most[g] = fmaxf(most[g], scores[i]);
      }
#pragma unroll
    for (int g = 0; g < kGroups; g++)
      tile.keys[g] = from + g * chunks * kChunk < end ? FloatScore::key(most[g]) : 0;
  }
};

// The k-th highest of `count` keys in shared memory; by one block, for all blocks of the row.
__device__ inline void find_limit(SelectShared& s, FewShared* few, const uint32_t* keys, uint32_t count, uint32_t k) {
  uint32_t prefix = 0, left = k;
  int shift = 32;
  bool whole = false;
  while (shift > 0 && !whole) {
    const int width = shift > 11 ? 11 : shift;
    shift -= width;
    clear(s.bins[0]);
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < count; i += blockDim.x)
      if (shift + width == 32 || keys[i] >> (shift + width) == prefix)
        atomicAdd(s.bins[0] + (keys[i] >> shift & ((1u << width) - 1)), 1u);
    __syncthreads();
    find_bin(s, s.bins[0], left);
    __syncthreads();
    prefix = prefix << width | s.bin;
    left -= s.over;
    whole = left == s.inside;
    __syncthreads();
  }
  const Threshold limit = whole ? Threshold{prefix << shift, 0xffffffffu, 0} : Threshold{prefix + 1, prefix, left};
  if (static_cast<int>(threadIdx.x) < blocks_of_row()) of_block(few, threadIdx.x)->limit = limit;
}

// Ids of the positions of a block whose bits are set, behind those of the blocks before it; ties only while some are wanted.
__device__ inline void write_ids(SelectShared& s, const SelectFew& t, int64_t row, int begin, const uint32_t* best,
                                 const uint32_t* ties, uint32_t taken) {
  const int words = t.selection.slice / 32;
  const int per = (words + static_cast<int>(blockDim.x) - 1) / static_cast<int>(blockDim.x);
  const int from = min(words, static_cast<int>(threadIdx.x) * per), to = min(words, from + per);
  uint32_t own_best = 0, own_ties = 0;
  for (int w = from; w < to; w++) {
    own_best += __popc(best[w]);
    own_ties += __popc(ties[w]);
  }
  uint32_t before_best = sum_before(own_best, s.above);
  uint32_t before_ties = sum_before(own_ties, s.ties);
  const int rank = rank_in_row();
  if (threadIdx.x == blockDim.x - 1)
    for (int other = rank + 1; other < blocks_of_row(); other++) {
      of_block(&s, other)->block_above[rank] = before_best + own_best;
      of_block(&s, other)->block_ties[rank] = before_ties + own_ties;
    }
  sync_row();
  for (int other = 0; other < rank; other++) {
    before_best += s.block_above[other];
    before_ties += s.block_ties[other];
  }
  uint32_t* ids = t.selection.ids + row * t.selection.id_stride;
  const uint32_t* map = t.selection.map == nullptr ? nullptr : t.selection.map + row * t.selection.map_stride;
  for (int w = from; w < to; w++)
    for (uint32_t bits = best[w] | ties[w]; bits != 0; bits &= bits - 1) {
      const int bit = __ffs(bits) - 1;
      const bool tie = ties[w] >> bit & 1;
      const uint32_t position = static_cast<uint32_t>(begin + 32 * w + bit);
      const uint32_t place = before_best + min(before_ties, taken);
      const bool wanted = !tie || before_ties < taken;
      before_best += !tie;
      before_ties += tie;
      // Scores that are not numbers must not lead outside.
      if (wanted && place < static_cast<uint32_t>(t.selection.k)) ids[place] = map == nullptr ? position : map[position];
    }
}

template <int kGroups>
__global__ void __launch_bounds__(kFewThreads, 1) select_few(const SelectFew t) {
  begin_kernel();
  __shared__ SelectShared s;
  __shared__ FewShared few;
  extern __shared__ uint32_t memory[];
  const Selection<FloatScore>& all = t.selection;
  const int words = all.slice / 32;
  uint32_t* best = memory;
  uint32_t* ties = best + words;
  uint32_t* groups = ties + words;
  uint32_t* positions = groups + t.candidates;
  uint32_t* keys = positions + t.candidates;
  uint32_t* gathered = keys + t.candidates;
  const int64_t row = blockIdx.x / blocks_of_row();
  const float* scores = all.scores + row * all.score_stride;
  const int rank = rank_in_row(), lane = threadIdx.x & 31;
  const int begin = min(all.of, rank * all.slice), end = min(all.of, begin + all.slice);
  if (threadIdx.x == 0) few.groups = few.candidates = few.gathered = 0;
  for (int i = threadIdx.x; i < 2 * words; i += static_cast<int>(blockDim.x)) best[i] = 0;
  Maxima<kGroups> maxima;
  const int from = begin + static_cast<int>(threadIdx.x) / 32 * kGroups * t.chunks * kChunk + 4 * lane;
  maxima.load(scores, from, end, t.chunks, t.aligned);
  const Threshold bound = find_threshold<FloatScore>(s, maxima, all.k, 2 * all.k);
  const uint32_t least = min(bound.least, bound.tie);
  // Groups that hold candidates, then the candidates: each a list, so that loads of many are on their way.
#pragma unroll
  for (int g = 0; g < kGroups; g++) {
    if (maxima.tile.keys[g] < least) continue;
    for (int c = 0; c < t.chunks; c++) {
      const uint32_t at = atomicAdd(&few.groups, 1);
      if (at < static_cast<uint32_t>(t.candidates)) groups[at] = from + (g * t.chunks + c) * kChunk;
    }
  }
  __syncthreads();
  for (uint32_t i = threadIdx.x; i < min(few.groups, t.candidates); i += blockDim.x) {
    float group[kGroup];
    load_group(group, scores, groups[i], end, t.aligned);
#pragma unroll
    for (int j = 0; j < kGroup; j++) {
      const int position = groups[i] + (j < 4 ? j : 124 + j);
      const uint32_t key = FloatScore::key(group[j]);
      if (key < least || position >= end) continue;
      const uint32_t at = atomicAdd(&few.candidates, 1);
      if (at >= static_cast<uint32_t>(t.candidates)) continue;
      positions[at] = position - begin;
      keys[at] = key;
    }
  }
  __syncthreads();
  // A block with too many says so by more than the first block has room for.
  const bool fits = max(few.groups, few.candidates) <= static_cast<uint32_t>(t.candidates);
  const uint32_t count = few.candidates;
  uint32_t total = count;
  if (blocks_of_row() > 1) {
    FewShared* first = of_block(&few, 0);
    if (threadIdx.x == 0) few.limit.taken = atomicAdd(&first->gathered, fits ? count : kMostGathered + 1);
    __syncthreads();
    const uint32_t base = few.limit.taken;
    uint32_t* to = of_block(gathered, 0);
    for (uint32_t i = threadIdx.x; fits && i < count && base + i < static_cast<uint32_t>(t.gathered); i += blockDim.x)
      to[base + i] = keys[i];
    sync_row();
    total = first->gathered;
  }
  if (!fits || (blocks_of_row() > 1 && total > static_cast<uint32_t>(t.gathered))) {
    sync_row();
    return select_all<FloatScore, 16>(s, all);
  }
  if (rank == 0) find_limit(s, &few, blocks_of_row() > 1 ? gathered : keys, total, all.k);
  sync_row();
  const Threshold limit = few.limit;
  for (uint32_t i = threadIdx.x; i < count; i += blockDim.x) {
    const uint32_t bit = 1u << positions[i] % 32;
    if (keys[i] >= limit.least) atomicOr(best + positions[i] / 32, bit);
    else if (keys[i] == limit.tie) atomicOr(ties + positions[i] / 32, bit);
  }
  __syncthreads();
  write_ids(s, t, row, begin, best, ties, limit.taken);
}

}  // namespace kvt
#endif
