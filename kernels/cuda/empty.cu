// The empty kernel: what a launch costs (calls/empty.ts).
#include "launch.h"

namespace {

using namespace kvt;

__global__ void nothing() { begin_kernel(); }

kvt_status empty(const CudaCall& call) {
  launch_kernel(call, nothing, {1, 32});
  return after_launch("empty");
}

KVT_CUDA_KERNEL(KVT_EMPTY, empty);

}  // namespace
