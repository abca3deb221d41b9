// Launches of kernels in which a cluster of blocks shares a row, and how many blocks that are.
#ifndef KVTIER_CUDA_CLUSTER_LAUNCH_H
#define KVTIER_CUDA_CLUSTER_LAUNCH_H

#include <array>

#include "launch.h"
#include "row-blocks.h"

namespace kvt {

// A row is shared by blocks of at least this many positions: summing tables over a cluster takes about as long.
constexpr int kSharedSlice = 8192;

template <auto kKernel>
struct ClusterLaunch {
  const CudaCall& call;
  const LaunchShape shape;

  ClusterLaunch(const CudaCall& of, int64_t rows, int cluster, int threads)
      : call(of),
        shape{dim3(static_cast<unsigned>(rows * cluster)), static_cast<unsigned>(threads), 0,
              static_cast<unsigned>(cluster)} {
    if (cluster > 8) cudaFuncSetAttribute(kKernel, cudaFuncAttributeNonPortableClusterSizeAllowed, 1);
  }
  // Clusters that find their place at once; 0 where the shape can't run at all.
  int together() const {
    int clusters = 0;
    const LaunchConfig launch(shape, call.stream, false);
    if (cudaOccupancyMaxActiveClusters(&clusters, kKernel, &launch.config) != cudaSuccess) clusters = 0;
    cudaGetLastError();
    return clusters;
  }
  template <typename T>
  void run(const T& arguments) const { launch_kernel(call, kKernel, shape, arguments); }
};

// Rows of 2^i blocks each that find their place at once: fewer than multiprocessors allow, since a cluster stays within
// one group of them.
template <auto kKernel>
int rows_together(const CudaCall& call, int i) {
  static const std::array<int, 5> found = [&] {
    std::array<int, 5> together{};
    for (int size = 0; size < 5; size++) together[size] = ClusterLaunch<kKernel>(call, 1, 1 << size, 1024).together();
    return together;
  }();
  return found[i];
}

// Blocks for a row: more while its part of a row is long and all rows still find their place at once.
template <auto kKernel>
int cluster_for(const CudaCall& call, int of, int64_t rows) {
  if (!has_clusters()) return 1;
  int i = 0;
  while (i < 4 && of > (int64_t{kSharedSlice} << i) && rows_together<kKernel>(call, i + 1) >= rows) i++;
  return 1 << i;
}

}  // namespace kvt
#endif
