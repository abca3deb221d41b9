// Sums over the threads of a block.
#ifndef KVTIER_CUDA_BLOCK_SUM_H
#define KVTIER_CUDA_BLOCK_SUM_H

#include "kernel.h"

namespace kvt {

constexpr int kMostWarps = 32;
constexpr unsigned kAllLanes = ~0u;

// Sum of a value over the threads before this one; `sums` has room for a number a warp.
__device__ inline uint32_t sum_before(uint32_t value, uint32_t* sums) {
  const int lane = threadIdx.x & 31;
  const int warp = static_cast<int>(threadIdx.x / 32);
  uint32_t sum = value;
#pragma unroll
  for (int by = 1; by < 32; by *= 2) {
    const uint32_t other = __shfl_up_sync(kAllLanes, sum, by);
    if (lane >= by) sum += other;
  }
  if (lane == 31) sums[warp] = sum;
  __syncthreads();
  return __reduce_add_sync(kAllLanes, lane < warp ? sums[lane] : 0) + sum - value;
}

}  // namespace kvt
#endif
