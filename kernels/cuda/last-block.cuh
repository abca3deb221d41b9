// The block that comes last: several blocks leave parts in memory, and the last of them puts them together.
#ifndef KVTIER_LAST_BLOCK_CUH
#define KVTIER_LAST_BLOCK_CUH

#include <cstdint>

namespace kvt {

// True in the block that comes last of `count`, which then sees what the others wrote; the counter is zero again.
__device__ __forceinline__ bool comes_last(uint32_t* counter, uint32_t count) {
  __shared__ bool last;
  __syncthreads();
  if (threadIdx.x == 0) {
    // Carries what the whole block wrote: the barrier before makes it this thread's past.
    __threadfence();
    last = atomicAdd(counter, 1) + 1 == count;
    if (last) *counter = 0;
  }
  __syncthreads();
  if (last) __threadfence();
  return last;
}

}  // namespace kvt
#endif
