// Counts of digits for a radix select (select.h): a table a block, summed over the blocks of a row in the first one's.
#ifndef KVTIER_CUDA_SELECT_DIGITS_H
#define KVTIER_CUDA_SELECT_DIGITS_H

#include "block-sum.h"
#include "row-blocks.h"

namespace kvt {

constexpr int kBins = 2048;
constexpr int kFewestThreads = 256;
constexpr int kMostBlocks = 16;

struct SelectShared {
  // Two tables, so that one is cleared while other blocks may still add to the other.
  uint32_t bins[2][kBins];
  uint32_t sums[kMostWarps];
  uint32_t above[kMostWarps], ties[kMostWarps];
  uint32_t block_above[kMostBlocks], block_ties[kMostBlocks];
  // The bin in which the k-th highest lies, what lies above the bin, and in it.
  uint32_t bin, over, inside;
};

// Adds a block's counts to those of the row's first block: few bins are not empty, so this moves less than reading tables.
__device__ inline void add_to_first(uint32_t* table) {
  uint32_t* first = of_block(table, 0);
  for (int i = threadIdx.x; i < kBins; i += static_cast<int>(blockDim.x))
    if (table[i] != 0) atomicAdd(first + i, table[i]);
}

// Finds the bin of the `left`-th highest key, from the highest bin down, and tells all blocks of the row.
__device__ inline void find_bin(SelectShared& s, const uint32_t* table, uint32_t left) {
  constexpr int kMost = kBins / kFewestThreads;
  const int per = kBins / static_cast<int>(blockDim.x);
  const int first = kBins - (static_cast<int>(threadIdx.x) + 1) * per;
  uint32_t counts[kMost] = {};
  uint32_t mine = 0;
#pragma unroll
  for (int i = 0; i < kMost; i++) {
    if (i < per) counts[i] = table[first + i];
    mine += counts[i];
  }
  uint32_t over = sum_before(mine, s.sums);
#pragma unroll
  for (int i = kMost - 1; i >= 0; i--) {
    if (over < left && left <= over + counts[i]) {
      for (int rank = 0; rank < blocks_of_row(); rank++) {
        SelectShared* told = of_block(&s, rank);
        told->bin = first + i;
        told->over = over;
        told->inside = counts[i];
      }
    }
    over += counts[i];
  }
}

// Keys that are taken for sure, and keys that tie for what is left.
struct Taken {
  uint32_t above, ties;
};

// What the row has before this warp's part, from what each warp has in its own; a block tells those after it.
__device__ inline Taken taken_before(SelectShared& s, const Taken& own) {
  const int lane = threadIdx.x & 31;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int warps = static_cast<int>(blockDim.x) / 32;
  const int rank = rank_in_row();
  if (lane == 0) {
    s.above[warp] = own.above;
    s.ties[warp] = own.ties;
  }
  __syncthreads();
  uint32_t above = __reduce_add_sync(kAllLanes, lane < warp ? s.above[lane] : 0);
  uint32_t ties = __reduce_add_sync(kAllLanes, lane < warp ? s.ties[lane] : 0);
  if (warp == warps - 1 && lane == 0)
    for (int other = rank + 1; other < blocks_of_row(); other++) {
      SelectShared* told = of_block(&s, other);
      told->block_above[rank] = above + own.above;
      told->block_ties[rank] = ties + own.ties;
    }
  sync_row();
  above += __reduce_add_sync(kAllLanes, lane < rank ? s.block_above[lane] : 0);
  ties += __reduce_add_sync(kAllLanes, lane < rank ? s.block_ties[lane] : 0);
  return {above, ties};
}

}  // namespace kvt
#endif
