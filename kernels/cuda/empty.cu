// The empty kernel: what a launch costs (calls/empty.ts).
#include "kernel.h"

namespace {

using namespace kvt;

__global__ void nothing() {}

kvt_status empty(const CudaCall& call) {
  nothing<<<1, 32, 0, call.stream>>>();
  return after_launch("empty");
}

KVT_CUDA_KERNEL(KVT_EMPTY, empty);

}  // namespace
