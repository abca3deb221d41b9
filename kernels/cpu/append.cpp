// New K and V rows into pages on the CPU; arguments in calls/append.ts.
#include "append-rows.h"

namespace {

using namespace kvt;

kvt_status append(const CpuCall& call) {
  const int64_t rows = call.integer(KVT_APPEND_INT_ROWS);
  const int64_t row_bytes = 2 * call.integer(KVT_APPEND_INT_HEAD_DIM);
  const int64_t tokens = call.integer(KVT_APPEND_INT_PAGE_TOKENS);
  const int64_t stride = call.integer(KVT_APPEND_INT_PAGE_STRIDE);
  if (rows < 1 || row_bytes < 2 || tokens < 1 || stride < 2 * tokens * row_bytes)
    return fail(KVT_INVALID, "append: rows, headDim and pageTokens must be 1 or more, pageStride at least a page");
  const NewRows added{call.at<const uint8_t>(KVT_APPEND_REF_K), call.at<const uint8_t>(KVT_APPEND_REF_V),
                      call.at<const uint32_t>(KVT_APPEND_REF_SLOTS)};
  return append_rows(call, "append", added, call.at<uint8_t>(KVT_APPEND_REF_POOL), call.bytes[KVT_APPEND_REF_POOL],
                     {rows, row_bytes, tokens, stride});
}

KVT_CPU_KERNEL(KVT_APPEND, append);

}  // namespace
