// Nothing; see calls/empty.ts.
#include "kernel.h"

namespace {

using namespace kvt;

kvt_status empty(const CpuCall&) { return KVT_OK; }

KVT_CPU_KERNEL(KVT_EMPTY, empty);

}  // namespace
