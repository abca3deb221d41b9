// Launches decode attention for one store of KV; attend.cu has those of raw pages, attend-coded.cu those of coded ones.
#ifndef KVTIER_ATTEND_LAUNCH_CUH
#define KVTIER_ATTEND_LAUNCH_CUH

#include "attend-kernel.cuh"
#include "kernel.h"

namespace kvt {

// Rows times tiles of heads of a call: each has a counter.
constexpr int kAttendCounters = 1 << 16;

kvt_status attend_coded(const CudaCall& call, const AttendArguments& a, int units, int format);

template <typename Store, int HeadTiles, int Warps>
kvt_status launch_attend(const CudaCall& call, AttendArguments a, int units) {
  constexpr int heads = 8 * HeadTiles;
  constexpr size_t shared = sizeof(float) * BlockSums<Store::kDim, heads, Warps>::kFloats;
  const auto kernel = attend_kernel<Store, HeadTiles, Warps>;
  static const cudaError_t raised =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared));
  if (raised != cudaSuccess) return fail(KVT_FAULT, "attend: %s", cudaGetErrorString(raised));
  const unsigned tiles = (a.group + heads - 1) / heads;
  const unsigned blocks = units;
  const uint64_t bytes = sizeof(float) * 2ull * tiles * blocks * heads * (Store::kDim + 4);
  if (bytes > call.scratch_bytes)
    return fail(KVT_UNSUPPORTED, "attend: partial results need %llu bytes of scratch, there are %llu",
                static_cast<unsigned long long>(bytes), static_cast<unsigned long long>(call.scratch_bytes));
  if (static_cast<uint64_t>(tiles) * a.rows > kAttendCounters)
    return fail(KVT_UNSUPPORTED, "attend: %u rows of %d query heads, expected %d or fewer", a.rows, a.group,
                kAttendCounters / static_cast<int>(tiles));
  kernel<<<dim3(blocks, tiles), 32 * Warps, shared, call.stream>>>(a);
  return after_launch("attend");
}

}  // namespace kvt
#endif
