// Collects rows by index (calls/gather.ts).
#include "chosen-rows.h"

namespace {

using namespace kvt;

kvt_status gather(const CudaCall& call) { return move_chosen<Chosen::source>(call, "gather"); }

KVT_CUDA_KERNEL_ANY_TIER(KVT_GATHER, gather);

}  // namespace
