// Distributes rows by index (calls/scatter.ts).
#include "chosen-rows.h"

namespace {

using namespace kvt;

kvt_status scatter(const CudaCall& call) { return move_chosen<Chosen::target>(call, "scatter"); }

KVT_CUDA_KERNEL_ANY_TIER(KVT_SCATTER, scatter);

}  // namespace
