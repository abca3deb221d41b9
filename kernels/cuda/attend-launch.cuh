// Launches decode attention for one store of KV; attend.cu has those of raw pages, attend-coded.cu those of coded ones.
#ifndef KVTIER_ATTEND_LAUNCH_CUH
#define KVTIER_ATTEND_LAUNCH_CUH

#include "attend-kernel.cuh"
#include "launch.h"

namespace kvt {

// Rows and blocks times tiles of heads of a call: each has a counter.
constexpr int kAttendCounters = 1 << 16;
constexpr int kMostHeadTiles = 64;

kvt_status attend_coded(const CudaCall& call, const AttendArguments& a, int units, int format);
// Over raw pages, leaving its logits.
kvt_status attend_logits(const CudaCall& call, const AttendArguments& a, int units, int format);

template <typename Store, int HeadTiles, int Warps, bool Free = false>
kvt_status launch_attend(const CudaCall& call, AttendArguments a, int units) {
  constexpr int heads = 8 * HeadTiles;
  constexpr size_t shared = sizeof(float) * BlockSums<Store::kDim, heads, Warps>::kFloats +
                            Queries<Store, HeadTiles, Warps>::kSharedBytes + Stages<Store, Warps>::kBytes;
  const auto kernel = attend_kernel<Store, HeadTiles, Warps, Free>;
  static const cudaError_t raised =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared));
  if (raised != cudaSuccess) return fail(KVT_FAULT, "attend: %s", cudaGetErrorString(raised));
  const unsigned tiles = (a.group + heads - 1) / heads;
  const unsigned blocks = units;
  const uint64_t part_bytes = sizeof(float) * kParts * tiles * blocks * heads * (Store::kDim + 4ull);
  const uint64_t bytes = part_bytes + sizeof(uint32_t) * tiles * a.rows * static_cast<uint64_t>(blocks);
  if (bytes > call.scratch_bytes)
    return fail(KVT_UNSUPPORTED, "attend: partial results need %llu bytes of scratch, there are %llu",
                static_cast<unsigned long long>(bytes), static_cast<unsigned long long>(call.scratch_bytes));
  a.lists = reinterpret_cast<uint32_t*>(reinterpret_cast<char*>(a.partials) + part_bytes);
  if (tiles > kMostHeadTiles)
    return fail(KVT_UNSUPPORTED, "attend: group is %d, expected %d or fewer", a.group, heads * kMostHeadTiles);
  if (static_cast<uint64_t>(tiles) * (a.rows + blocks) > kAttendCounters)
    return fail(KVT_UNSUPPORTED, "attend: %u rows of %d query heads, expected %d or fewer", a.rows, a.group,
                kAttendCounters / static_cast<int>(tiles) - static_cast<int>(blocks));
  launch_kernel(call, kernel, {dim3(blocks, tiles), 32 * Warps, shared}, a);
  return after_launch("attend");
}

}  // namespace kvt
#endif
