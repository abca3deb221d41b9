// The block that comes last: several blocks leave parts in memory, and the last of them puts them together.
#ifndef KVTIER_LAST_BLOCK_CUH
#define KVTIER_LAST_BLOCK_CUH

#include <cstdint>

namespace kvt {

// Adds to a counter: what the block wrote before its last barrier is there for whoever finds the sum, and what those who
// added before had written is there for the block behind its next barrier. Returns the counter as it was. One thread.
// Source: PTX ISA, memory consistency model (causality order through barriers).
__device__ __forceinline__ uint32_t count_at(uint32_t* counter, uint32_t more) {
  uint32_t before;
  asm volatile("atom.acq_rel.gpu.global.add.u32 %0, [%1], %2;" : "=r"(before) : "l"(counter), "r"(more) : "memory");
  return before;
}
__device__ __forceinline__ uint64_t count_at(unsigned long long* counter, uint64_t more) {
  uint64_t before;
  asm volatile("atom.acq_rel.gpu.global.add.u64 %0, [%1], %2;" : "=l"(before) : "l"(counter), "l"(more) : "memory");
  return before;
}

// True in the block that comes last of `count`, which then sees what the others wrote; the counter is zero again.
__device__ __forceinline__ bool comes_last(uint32_t* counter, uint32_t count) {
  __shared__ bool last;
  __syncthreads();
  if (threadIdx.x == 0) {
    last = count_at(counter, 1) + 1 == count;
    if (last) *counter = 0;
  }
  __syncthreads();
  return last;
}

}  // namespace kvt
#endif
