// Copy of equal runs; arguments in calls/copy.ts. The modes of a DMA engine are one thread here.
#include "rows.h"

namespace {

using namespace kvt;

kvt_status copy(const CpuCall& call) {
  const Rows from = rows_of(call, KVT_COPY_REF_SOURCE, call.integer(KVT_COPY_INT_SOURCE_STRIDE));
  const Rows to = rows_of(call, KVT_COPY_REF_TARGET, call.integer(KVT_COPY_INT_TARGET_STRIDE));
  Limited threads(call.threads, call.integer(KVT_COPY_INT_MODE) == KVT_COPY_KERNEL ? 0 : 1);
  return move_rows("copy", from, to, call.integer(KVT_COPY_INT_COUNT), call.integer(KVT_COPY_INT_BYTES), threads,
                   call.io);
}

KVT_CPU_FILE_KERNEL(KVT_COPY, copy);

}  // namespace
