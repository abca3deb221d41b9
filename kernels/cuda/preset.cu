// One value in every place of a buffer (calls/preset.ts).
#include "launch.h"

namespace {

using namespace kvt;

constexpr int kThreads = 256;
constexpr int kPerThread = 8;

__global__ void __launch_bounds__(kThreads) fill_places(float* out, int64_t count, float value) {
  begin_kernel();
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kThreads * kPerThread + threadIdx.x;
#pragma unroll
  for (int i = 0; i < kPerThread; i++)
    if (first + i * kThreads < count) out[first + i * kThreads] = value;
}

kvt_status preset(const CudaCall& call) {
  const int64_t count = call.integer(KVT_PRESET_INT_COUNT);
  constexpr int64_t of_block = kThreads * kPerThread;
  if (count < 1 || count > of_block << 30) return fail(KVT_INVALID, "preset: expected count 1 to 2^41");
  launch_kernel(call, fill_places, {static_cast<unsigned>((count + of_block - 1) / of_block), kThreads},
                call.at<float>(KVT_PRESET_REF_OUT), count, static_cast<float>(call.real(KVT_PRESET_REAL_VALUE)));
  return after_launch("preset");
}

KVT_CUDA_KERNEL(KVT_PRESET, preset);

}  // namespace
