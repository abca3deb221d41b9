// Launches select_few where it pays: which blocks share a row, and what memory they get.
#ifndef KVTIER_CUDA_SELECT_FEW_LAUNCH_H
#define KVTIER_CUDA_SELECT_FEW_LAUNCH_H

#include <array>

#include "launch.h"
#include "select-few.h"

namespace kvt {

constexpr int kFewSlice = 16384;  // positions of a block at least where blocks share a row
// Fewer scores are selected faster by sweeps of all of them (H100).
constexpr int kLeastFew = 8192;
constexpr int64_t kLeastScores = 1 << 20;

// Dynamic shared memory that a block may have, bytes.
inline int few_room() {
  int device = 0, bytes = 0;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
  return bytes - static_cast<int>(sizeof(SelectShared) + sizeof(FewShared)) - 64;
}

template <int kGroups>
struct FewLaunch {
  const CudaCall& call;
  const LaunchShape shape;

  FewLaunch(const CudaCall& of, int64_t rows, int cluster, int threads, int bytes)
      : call(of),
        shape{dim3(static_cast<unsigned>(rows * cluster)), static_cast<unsigned>(threads), static_cast<size_t>(bytes),
              static_cast<unsigned>(cluster)} {
    static const bool allowed = allow();
    (void)allowed;
  }
  // Where this fails, so does the launch, and is reported.
  static bool allow() {
    cudaFuncSetAttribute(select_few<kGroups>, cudaFuncAttributeNonPortableClusterSizeAllowed, 1);
    return cudaFuncSetAttribute(select_few<kGroups>, cudaFuncAttributeMaxDynamicSharedMemorySize, few_room()) ==
           cudaSuccess;
  }
  int together() const {
    int clusters = 0;
    const LaunchConfig launch(shape, call.stream, false);
    if (cudaOccupancyMaxActiveClusters(&clusters, select_few<kGroups>, &launch.config) != cudaSuccess) clusters = 0;
    cudaGetLastError();
    return clusters;
  }
  void run(const SelectFew& t) { launch_kernel(call, select_few<kGroups>, shape, t); }
};

// Blocks of a row: as many as find their place at once, each with a few thousand positions or more.
inline int few_cluster(const CudaCall& call, int of, int64_t rows) {
  constexpr std::array<int, 7> sizes{16, 12, 8, 6, 4, 3, 2};
  if (!has_clusters()) return 1;
  static const auto together = [&] {
    std::array<int, sizes.size()> found{};
    for (size_t i = 0; i < found.size(); i++)
      found[i] = FewLaunch<16>(call, 1, sizes[i], kFewThreads, few_room()).together();
    return found;
  }();
  for (size_t i = 0; i < together.size(); i++)
    if (of >= static_cast<int64_t>(sizes[i]) * kFewSlice && together[i] >= rows) return sizes[i];
  return 1;
}

// False where select_rows is faster (few scores, so that the steps in between count), where the bound would leave too many
// scores, or a block has too little shared memory.
inline bool select_few_rows(const CudaCall& call, const Selection<FloatScore>& selection, int64_t rows) {
  if (selection.of < kLeastFew || rows * selection.of < kLeastScores) return false;
  SelectFew t{selection, 1, 0, 0, false};
  const int cluster = few_cluster(call, t.selection.of, rows);
  t.selection.slice = static_cast<int>(((t.selection.of + cluster - 1) / cluster + 31) & ~31);
  const int slice = t.selection.slice;
  const int keys = rows * cluster > call.multiprocessors ? 32 : 16;
  int threads = kFewestThreads;
  while (threads < kFewThreads && slice > keys * threads) threads *= 2;
  const int groups = slice <= 4 * kGroup * threads ? 4 : 16;
  t.chunks = (slice + groups * kGroup * threads - 1) / (groups * kGroup * threads);
  if (2 * static_cast<int64_t>(selection.k) * kGroup * t.chunks > selection.of) return false;
  t.candidates = slice / 4 < 1024 ? 1024 : slice / 4 > kMostCandidates ? kMostCandidates : slice / 4;
  t.gathered = cluster > 1 ? kMostGathered : 0;
  const int64_t bytes = 4 * (slice / 16 + 3 * int64_t{t.candidates} + t.gathered);
  if (bytes > few_room()) return false;
  t.aligned = reinterpret_cast<uintptr_t>(selection.scores) % 16 == 0 && (rows == 1 || selection.score_stride % 4 == 0);
  if (groups == 4) FewLaunch<4>(call, rows, cluster, threads, static_cast<int>(bytes)).run(t);
  else FewLaunch<16>(call, rows, cluster, threads, static_cast<int>(bytes)).run(t);
  return true;
}

}  // namespace kvt
#endif
