// Gather of rows by an index; arguments in calls/gather.ts.
#include "packing.h"

namespace {

using namespace kvt;

kvt_status gather(const CpuCall& call) {
  const int64_t rows = call.integer(KVT_GATHER_INT_ROWS), bytes = call.integer(KVT_GATHER_INT_ROW_BYTES);
  const int64_t mode = call.integer(KVT_GATHER_INT_MODE);
  Rows from = rows_of(call, KVT_GATHER_REF_SOURCE, call.integer(KVT_GATHER_INT_SOURCE_STRIDE));
  const Rows to = rows_of(call, KVT_GATHER_REF_TARGET, call.integer(KVT_GATHER_INT_TARGET_STRIDE));
  from.index = call.at<const uint32_t>(KVT_GATHER_REF_INDEX);
  if (from.index == nullptr) return fail(KVT_INVALID, "gather: the index must lie in memory");
  Limited kernel(call.threads, call.integer(KVT_GATHER_INT_UNITS)), dma(call.threads, 1);
  if (mode == KVT_ROWS_KERNEL) return move_rows("gather", from, to, rows, bytes, kernel, call.io);
  if (mode != KVT_ROWS_STAGED) return move_rows("gather", from, to, rows, bytes, dma, call.io);
  const Rows staging = rows_of(call, KVT_GATHER_REF_STAGING, bytes);
  if (staging.memory == nullptr) return fail(KVT_INVALID, "gather: mode staged needs staging, in memory");
  if (from.file != nullptr) {
    if (const kvt_status status = move_rows("gather", from, staging, rows, bytes, call.host, call.io)) return status;
  } else if (rows > 0 && bytes > 0) {
    if (const kvt_status status = check_rows("gather", "staging", staging, rows, bytes)) return status;
    const PackingPlan plan = PackingPlan::of(rows, bytes, 1);
    if (const kvt_status status = pack_rows("gather", plan, from, staging.memory, call.host, [](int) {})) return status;
  }
  return move_rows("gather", staging, to, rows, bytes, dma, call.io);
}

KVT_CPU_FILE_KERNEL(KVT_GATHER, gather);

}  // namespace
