// Scatter of rows by an index; arguments in calls/scatter.ts.
#include "rows.h"

namespace {

using namespace kvt;

kvt_status scatter(const CpuCall& call) {
  const int64_t rows = call.integer(KVT_SCATTER_INT_ROWS), bytes = call.integer(KVT_SCATTER_INT_ROW_BYTES);
  const int64_t mode = call.integer(KVT_SCATTER_INT_MODE);
  const Rows from = rows_of(call, KVT_SCATTER_REF_SOURCE, call.integer(KVT_SCATTER_INT_SOURCE_STRIDE));
  Rows to = rows_of(call, KVT_SCATTER_REF_TARGET, call.integer(KVT_SCATTER_INT_TARGET_STRIDE));
  to.index = call.at<const uint32_t>(KVT_SCATTER_REF_INDEX);
  if (to.index == nullptr) return fail(KVT_INVALID, "scatter: the index must lie in memory");
  Limited kernel(call.threads, call.integer(KVT_SCATTER_INT_UNITS)), dma(call.threads, 1);
  if (mode == KVT_ROWS_KERNEL) return move_rows("scatter", from, to, rows, bytes, kernel, call.io);
  if (mode != KVT_ROWS_STAGED) return move_rows("scatter", from, to, rows, bytes, dma, call.io);
  const Rows staging = rows_of(call, KVT_SCATTER_REF_STAGING, bytes);
  if (staging.memory == nullptr) return fail(KVT_INVALID, "scatter: mode staged needs staging, in memory");
  if (const kvt_status status = move_rows("scatter", from, staging, rows, bytes, dma, call.io)) return status;
  return move_rows("scatter", staging, to, rows, bytes, call.host, call.io);
}

KVT_CPU_FILE_KERNEL(KVT_SCATTER, scatter);

}  // namespace
