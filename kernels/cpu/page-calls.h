// Arguments that the two codec kernels share: pages read from one pool and written to another.
#ifndef KVTIER_CPU_PAGE_CALLS_H
#define KVTIER_CPU_PAGE_CALLS_H

#include "pages.h"

namespace kvt {
namespace {

struct PageCall {
  int64_t pages, tokens;
  int dim, from, to;
  int64_t from_stride, to_stride;
  const uint8_t* source;
  uint8_t* target;
  const uint32_t* source_pages;
  const uint32_t* target_pages;

  const uint8_t* source_page(int64_t i) const { return source + (source_pages ? source_pages[i] : i) * from_stride; }
  uint8_t* target_page(int64_t i) const { return target + (target_pages ? target_pages[i] : i) * to_stride; }
};

// `ints` and `refs` in the order of calls/encode.ts and calls/decode.ts, which agree but for their names.
inline kvt_status read_page_call(const CpuCall& call, const char* name, bool encodes, PageCall& c) {
  c.pages = call.integer(0), c.dim = static_cast<int>(call.integer(1)), c.tokens = call.integer(2);
  c.from = static_cast<int>(call.integer(3)), c.to = static_cast<int>(call.integer(4));
  c.from_stride = call.integer(5), c.to_stride = call.integer(6);
  c.source = call.at<const uint8_t>(0), c.target = call.at<uint8_t>(1);
  c.source_pages = call.at<const uint32_t>(2), c.target_pages = call.at<const uint32_t>(3);
  if (c.pages < 1 || c.tokens < 1 || c.dim < 8 || c.dim % 8 != 0)
    return fail(KVT_INVALID, "%s: pages and pageTokens must be 1 or more, headDim a multiple of 8", name);
  const int raw = encodes ? c.from : c.to, coded = encodes ? c.to : c.from;
  if (raw < 0 || raw > FORMAT_F16 || coded <= FORMAT_F16 || coded >= FORMATS)
    return fail(KVT_INVALID, "%s: formats %d and %d, expected one raw and one coded", name, c.from, c.to);
  const int64_t from_bytes = layout_of(format_of(c.from), c.dim, c.tokens).bytes;
  const int64_t to_bytes = layout_of(format_of(c.to), c.dim, c.tokens).bytes;
  if (c.from_stride < from_bytes || c.to_stride < to_bytes || c.from_stride % 2 != 0 || c.to_stride % 2 != 0)
    return fail(KVT_INVALID, "%s: strides %lld and %lld, expected even numbers, at least a page", name,
                static_cast<long long>(c.from_stride), static_cast<long long>(c.to_stride));
  for (int64_t i = 0; i < c.pages; i++)
    if (c.source_page(i) - c.source + from_bytes > static_cast<int64_t>(call.bytes[0]) ||
        c.target_page(i) - c.target + to_bytes > static_cast<int64_t>(call.bytes[1]))
      return fail(KVT_INVALID, "%s: page %lld lies past its pool", name, static_cast<long long>(i));
  return KVT_OK;
}

}  // namespace
}  // namespace kvt
#endif
