// The GPU's own clock.
#ifndef KVTIER_CUDA_CLOCK_H
#define KVTIER_CUDA_CLOCK_H

#include <cstdint>

namespace kvt {

__device__ inline int64_t gpu_now_ns() {
  int64_t ns;
  asm volatile("mov.u64 %0, %globaltimer;" : "=l"(ns));
  return ns;
}

}  // namespace kvt

#endif
