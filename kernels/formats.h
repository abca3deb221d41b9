// Formats of KV pages, the twin of formats.ts: where the parts of a page begin. Plain C++, for host and device.
#ifndef KVTIER_FORMATS_H
#define KVTIER_FORMATS_H

#include <cstdint>

#ifdef __CUDACC__
#define KVT_HOST_DEVICE __host__ __device__
#else
#define KVT_HOST_DEVICE
#endif

namespace kvt {

enum FormatId : int {
  FORMAT_BF16, FORMAT_F16, FORMAT_INT8, FORMAT_INT4, FORMAT_INT4_TOKEN, FORMAT_K8V4, FORMAT_INT8_G64, FORMAT_INT4_G64,
  FORMAT_INT2, FORMAT_INT2_G64, FORMAT_INT2_KEYS,
  FORMATS
};

// One half of a page: bits of an element (16 = a number), size of a group along tokens and channels (0 = all).
struct HalfFormat {
  int bits;
  int group_tokens;
  int group_channels;
  bool symmetric;

  KVT_HOST_DEVICE constexpr bool coded() const { return bits < 16; }
  // One scale a channel for a run of tokens; else scales and offsets stand side by side for each token.
  KVT_HOST_DEVICE constexpr bool by_channel() const { return group_tokens != 1; }
  KVT_HOST_DEVICE constexpr int row_bytes(int dim) const { return dim * bits / 8; }
  KVT_HOST_DEVICE constexpr int groups_along(int tokens) const {
    return group_tokens == 0 || group_tokens >= tokens ? 1 : (tokens + group_tokens - 1) / group_tokens;
  }
  KVT_HOST_DEVICE constexpr int groups_across(int dim) const {
    return group_channels == 0 || group_channels >= dim ? 1 : (dim + group_channels - 1) / group_channels;
  }
  KVT_HOST_DEVICE constexpr int scale_bytes(int dim, int tokens) const {
    return coded() ? groups_along(tokens) * groups_across(dim) * (symmetric ? 2 : 4) : 0;
  }
};

struct PageFormat {
  HalfFormat keys;
  HalfFormat values;
};

KVT_HOST_DEVICE constexpr PageFormat format_of(int id) {
  switch (id) {
    case FORMAT_INT8: return {{8, 32, 1, false}, {8, 1, 32, false}};
    case FORMAT_INT4: return {{4, 32, 1, false}, {4, 1, 32, false}};
    case FORMAT_INT4_TOKEN: return {{4, 1, 64, false}, {4, 1, 64, false}};
    case FORMAT_K8V4: return {{8, 0, 1, true}, {4, 1, 0, false}};
    case FORMAT_INT8_G64: return {{8, 64, 1, false}, {8, 1, 64, false}};
    case FORMAT_INT4_G64: return {{4, 64, 1, false}, {4, 1, 64, false}};
    case FORMAT_INT2: return {{2, 32, 1, false}, {2, 1, 32, false}};
    case FORMAT_INT2_G64: return {{2, 64, 1, false}, {2, 1, 64, false}};
    case FORMAT_INT2_KEYS: return {{2, 32, 1, false}, {16, 1, 1, false}};
    default: return {{16, 1, 1, false}, {16, 1, 1, false}};
  }
}

// Bytes from the page's start.
struct PageLayout {
  int64_t values;
  int64_t key_scales;
  int64_t value_scales;
  int64_t bytes;
};

KVT_HOST_DEVICE constexpr PageLayout layout_of(const PageFormat& format, int dim, int64_t tokens) {
  const int64_t values = tokens * format.keys.row_bytes(dim);
  const int64_t key_scales = values + tokens * format.values.row_bytes(dim);
  const int64_t value_scales = key_scales + format.keys.scale_bytes(dim, static_cast<int>(tokens));
  return {values, key_scales, value_scales, value_scales + format.values.scale_bytes(dim, static_cast<int>(tokens))};
}

}  // namespace kvt
#endif
