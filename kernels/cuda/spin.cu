// Holds a stream for a time (calls/spin.ts) by the GPU's nanosecond clock, on one thread.
#include "clock.h"
#include "launch.h"

namespace {

using namespace kvt;

__global__ void spin_for(int64_t ns) {
  begin_kernel();
  const int64_t start = gpu_now_ns();
  while (gpu_now_ns() - start < ns) __nanosleep(100);
}

kvt_status spin(const CudaCall& call) {
  const int64_t ns = call.integer(KVT_SPIN_INT_NS);
  if (ns < 0 || ns > 1'000'000'000) return fail(KVT_INVALID, "spin: ns must be 0 to 1e9");
  launch_kernel(call, spin_for, {1, 1}, ns);
  return after_launch("spin");
}

KVT_CUDA_KERNEL(KVT_SPIN, spin);

}  // namespace
