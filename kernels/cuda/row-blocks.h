// Blocks that share a row: a cluster, whose blocks reach each other's shared memory; before compute capability 9.0 there
// are none, and a row has one block.
#ifndef KVTIER_CUDA_ROW_BLOCKS_H
#define KVTIER_CUDA_ROW_BLOCKS_H

#include <cooperative_groups.h>

#include "kernel.h"

namespace kvt {

inline bool has_clusters() {
  int device = 0, major = 0;
  return cudaGetDevice(&device) == cudaSuccess &&
         cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) == cudaSuccess && major >= 9;
}

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
__device__ __forceinline__ int blocks_of_row() {
  return static_cast<int>(cooperative_groups::this_cluster().num_blocks());
}
__device__ __forceinline__ int rank_in_row() {
  return static_cast<int>(cooperative_groups::this_cluster().block_rank());
}
__device__ __forceinline__ void sync_row() {
  if (blocks_of_row() > 1)
    cooperative_groups::this_cluster().sync();
  else
    __syncthreads();
}
// The two halves of sync_row, with work between them.
__device__ __forceinline__ void arrive_in_row() {
  if (blocks_of_row() > 1) asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
}
__device__ __forceinline__ void wait_for_row() {
  if (blocks_of_row() > 1) asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}
template <typename T>
__device__ __forceinline__ T* of_block(T* shared, int rank) {
  return cooperative_groups::this_cluster().map_shared_rank(shared, rank);
}
#else
__device__ __forceinline__ int blocks_of_row() { return 1; }
__device__ __forceinline__ int rank_in_row() { return 0; }
__device__ __forceinline__ void sync_row() { __syncthreads(); }
__device__ __forceinline__ void arrive_in_row() {}
__device__ __forceinline__ void wait_for_row() {}
template <typename T>
__device__ __forceinline__ T* of_block(T* shared, int) {
  return shared;
}
#endif

}  // namespace kvt
#endif
