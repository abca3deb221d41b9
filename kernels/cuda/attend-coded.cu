// Decode attention over coded pages; called by attend.cu.
#include "attend-coded.cuh"
#include "attend-launch.cuh"

namespace kvt {
namespace {

template <int Format, int Dim>
kvt_status attend_dim(const CudaCall& call, const AttendArguments& a, int units) {
  constexpr bool by_channel = format_of(Format).keys.by_channel();
  constexpr bool narrow = format_of(Format).keys.bits <= 4 && format_of(Format).values.bits <= 4;
  constexpr int warps = Dim == 64 || narrow ? 12 : 8;
  const bool uniform = !by_channel || a.page_tokens % 32 == 0;
  if (!uniform) return launch_attend<CodedStore<Format, Dim, !by_channel>, 2, 8>(call, a, units);
  if (a.group > 8) return launch_attend<CodedStore<Format, Dim, true>, 2, 8>(call, a, units);
  return launch_attend<CodedStore<Format, Dim, true>, 1, warps>(call, a, units);
}

template <int Format>
kvt_status attend_format(const CudaCall& call, const AttendArguments& a, int units) {
  if (a.shape.dim == 64) return attend_dim<Format, 64>(call, a, units);
  if (a.shape.dim == 128) return attend_dim<Format, 128>(call, a, units);
  return fail(KVT_UNSUPPORTED, "attend: headDim of coded pages is %d, expected 64 or 128", a.shape.dim);
}

}  // namespace

// Formats of one layout share a kernel, group sizes are arguments, except where arithmetic is what takes long.
kvt_status attend_coded(const CudaCall& call, const AttendArguments& a, int units, int format) {
  switch (format) {
    case FORMAT_INT8:
    case FORMAT_INT8_G64: return attend_format<FORMAT_INT8>(call, a, units);
    case FORMAT_INT4:
    case FORMAT_INT4_G64: return attend_format<FORMAT_INT4>(call, a, units);
    case FORMAT_INT2: return attend_format<FORMAT_INT2>(call, a, units);
    case FORMAT_INT2_G64: return attend_format<FORMAT_INT2_G64>(call, a, units);
    case FORMAT_INT2_KEYS: return attend_format<FORMAT_INT2_KEYS>(call, a, units);
    case FORMAT_INT4_TOKEN: return attend_format<FORMAT_INT4_TOKEN>(call, a, units);
    default: return attend_format<FORMAT_K8V4>(call, a, units);
  }
}

}  // namespace kvt
