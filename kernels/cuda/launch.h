// Launches of kernels. One that stands behind another kernel of this kind on its stream is brought onto the processors
// while that one ends, and begins by waiting for it (programmatic dependent launch, CUDA C++ Programming Guide; compute
// capability 9.0): what a launch takes lies behind the other's last blocks. So every kernel begins with begin_kernel().
#ifndef KVTIER_CUDA_LAUNCH_H
#define KVTIER_CUDA_LAUNCH_H

#include "kernel.h"

namespace kvt {

struct LaunchShape {
  dim3 blocks;
  unsigned threads;
  size_t shared = 0;  // dynamic shared memory of a block, bytes
  unsigned cluster = 1;
};

// A shape in CUDA's words; what it points to lies in itself.
struct LaunchConfig {
  cudaLaunchAttribute attributes[2] = {};
  cudaLaunchConfig_t config{};

  LaunchConfig(const LaunchShape& shape, cudaStream_t stream, bool overlaps) {
    config.gridDim = shape.blocks;
    config.blockDim = dim3(shape.threads);
    config.dynamicSmemBytes = shape.shared;
    config.stream = stream;
    config.attrs = attributes;
    if (shape.cluster > 1) {
      attributes[config.numAttrs].id = cudaLaunchAttributeClusterDimension;
      attributes[config.numAttrs++].val.clusterDim = {shape.cluster, 1, 1};
    }
    if (overlaps) {
      attributes[config.numAttrs].id = cudaLaunchAttributeProgrammaticStreamSerialization;
      attributes[config.numAttrs++].val.programmaticStreamSerializationAllowed = 1;
    }
  }
  LaunchConfig(const LaunchConfig&) = delete;
};

template <typename T>
struct Same {
  using Type = T;
};

// Errors are left for after_launch().
template <typename... P>
void launch_kernel(const CudaCall& call, void (*kernel)(P...), const LaunchShape& shape,
                   const typename Same<P>::Type&... arguments) {
  const LaunchConfig launch(shape, call.stream, call.behind_kernel);
  cudaLaunchKernelEx(&launch.config, kernel, P(arguments)...);
  call.behind_kernel = call.overlaps;
}

// What the kernels before have written is there after this. Blocks of the next kernel come up where there is room once all of
// this one's have: at once with `next_ahead`, where the next fetches before it waits or is soon done (CudaTraits), else when
// this one may begin. Kernels that only wait would stand in the way of those before them: two blocks of delta-rebuild then
// shared a multiprocessor while others idled (H100: 24 us, now 19; lsh-hash 8.0, now 5.6).
__device__ __forceinline__ void begin_kernel(bool next_ahead = false) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  if (next_ahead) asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
  asm volatile("griddepcontrol.wait;" ::: "memory");
  // Also for the assembler: it keeps loads of what it takes for constant (ld.global.nc) behind this, but not behind the wait.
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

// Brings bytes of device memory (multiples of 16) into the L2 cache. May stand before begin_kernel(): all processors share
// that cache, so what is written behind the fetch is what is read.
__device__ __forceinline__ void fetch_to_cache(const void* from, uint32_t bytes) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(from), "r"(bytes) : "memory");
#endif
}

// The same for the line that an address lies in. Goes out at once, where fetch_to_cache() waits for the kernel before to end.
__device__ __forceinline__ void fetch_line(const void* at) { asm volatile("prefetch.global.L2 [%0];" ::"l"(at) : "memory"); }

}  // namespace kvt
#endif
