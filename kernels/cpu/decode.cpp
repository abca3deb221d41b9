// Coded pages to raw ones on the CPU; arguments in calls/decode.ts.
#include <vector>

#include "page-calls.h"

namespace {

using namespace kvt;

kvt_status decode(const CpuCall& call) {
  PageCall c{};
  const kvt_status read = read_page_call(call, "decode", false, c);
  if (read != KVT_OK) return read;
  const bool f16 = c.to == FORMAT_F16;
  call.threads.run(c.pages, [&](int64_t from, int64_t to) {
    std::vector<float> row(c.dim);
    for (int64_t page = from; page < to; page++)
      for (const bool values : {false, true}) {
        const PageSide side = side_of(c.from, c.dim, c.tokens, values);
        uint16_t* out = reinterpret_cast<uint16_t*>(c.target_page(page)) + (values ? c.tokens * c.dim : 0);
        for (int64_t token = 0; token < c.tokens; token++) {
          decode_row(side, c.source_page(page), token, row.data());
          for (int d = 0; d < c.dim; d++) out[token * c.dim + d] = number_of(row[d], f16);
        }
      }
  });
  return KVT_OK;
}

KVT_CPU_KERNEL(KVT_DECODE, decode);

}  // namespace
