// New K and V rows into pages on CUDA; arguments in calls/append.ts. A thread moves 16 bytes of K or of V.
#include "launch.h"

namespace {

using namespace kvt;

struct Appends {
  const uint4* k;
  const uint4* v;
  char* pool;
  const uint32_t* slots;
  int64_t words;  // of all rows of K
  uint32_t row_words;
  uint32_t page_tokens;
  int64_t page_stride;
  bool next_ahead;
};

// What a thread moves, and where its slot stands.
struct Word {
  const uint4* from;
  const uint32_t* slot;
  uint32_t at;  // in its row
  bool there;

  __device__ explicit Word(const Appends& a) {
    const int64_t word = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    from = (blockIdx.y == 0 ? a.k : a.v) + word;
    slot = a.slots + word / a.row_words;
    at = word % a.row_words;
    there = word < a.words;
  }
};

// Beside the end of the kernel before, whose own reads of memory these would else stand behind.
__device__ __forceinline__ void fetch_inputs(const Appends& a) {
  const Word word(a);
  if (word.there) fetch_line(word.slot), fetch_line(word.from);
}

__global__ void append_rows(Appends a) {
  fetch_inputs(a);
  begin_kernel(a.next_ahead);
  const Word word(a);
  if (!word.there) return;
  const uint32_t slot = *word.slot;
  if (slot == ~0u) return;
  uint4* const page = reinterpret_cast<uint4*>(a.pool + slot / a.page_tokens * a.page_stride);
  const uint32_t row = slot % a.page_tokens + (blockIdx.y == 0 ? 0 : a.page_tokens);
  page[row * a.row_words + word.at] = *word.from;
}

kvt_status append(const CudaCall& call) {
  const int64_t rows = call.integer(KVT_APPEND_INT_ROWS);
  const int64_t dim = call.integer(KVT_APPEND_INT_HEAD_DIM);
  const int64_t tokens = call.integer(KVT_APPEND_INT_PAGE_TOKENS);
  const int64_t stride = call.integer(KVT_APPEND_INT_PAGE_STRIDE);
  if (rows < 1 || tokens < 1 || dim < 8 || dim % 8 != 0)
    return fail(KVT_INVALID, "append: rows and pageTokens must be 1 or more, headDim a multiple of 8");
  if (stride < 4 * tokens * dim || stride % 16 != 0)
    return fail(KVT_INVALID, "append: pageStride is %lld, expected a multiple of 16, %lld or more",
                static_cast<long long>(stride), static_cast<long long>(4 * tokens * dim));
  const int64_t words = rows * dim / 8;
  const Appends a{call.at<const uint4>(KVT_APPEND_REF_K),        call.at<const uint4>(KVT_APPEND_REF_V),
                  call.at<char>(KVT_APPEND_REF_POOL),            call.at<const uint32_t>(KVT_APPEND_REF_SLOTS),
                  words,                                         static_cast<uint32_t>(dim / 8),
                  static_cast<uint32_t>(tokens),                 stride,
                  call.next_ahead};
  launch_kernel(call, append_rows, {dim3(static_cast<unsigned>((words + 255) / 256), 2), 256}, a);
  return after_launch("append");
}

KVT_CUDA_KERNEL_AHEAD(KVT_APPEND, append);

}  // namespace
