// Coded KV of a tile in registers: loaded as codes and scales, halves on the way to the tensor cores.
// Codes become numbers by their bits: 0x6400 | code is the half 1024 + code. Formats in formats.ts.
// Source of the bit forms: Kim et al., Who Says Elephants Can't Run, arXiv 2211.10017, section 3.
#ifndef KVTIER_ATTEND_CODED_CUH
#define KVTIER_ATTEND_CODED_CUH

#include "attend-stages.cuh"
#include "launch.h"

namespace kvt {

__device__ __forceinline__ __half2 as_half2(uint32_t pair) { return *reinterpret_cast<__half2*>(&pair); }
__device__ __forceinline__ uint32_t as_word(__half2 pair) { return *reinterpret_cast<uint32_t*>(&pair); }
__device__ __forceinline__ uint32_t scaled(__half2 code, uint32_t scale, uint32_t offset) {
  return as_word(__hfma2(code, as_half2(scale), as_half2(offset)));
}

constexpr uint32_t kMagic = 0x64006400;
// Halves: 1024, 1152 (1024 and the bias of signed bytes), 1/16, -64.
constexpr uint32_t k1024 = 0x64006400, k1152 = 0x64806480, kSixteenth = 0x2c002c00, kMinus64 = 0xd400d400;
// 16 and 4, whose mantissas count ones from bit 6 and bit 8 on.
constexpr uint32_t k16 = 0x4c004c00, k4 = 0x44004400, kMinus16 = 0xcc00cc00, kMinus4 = 0xc400c400;

// Bits of a word under a number's exponent: one instruction, which the compiler would make two.
template <uint32_t Mask>
__device__ __forceinline__ uint32_t bits_over(uint32_t word, uint32_t exponent) {
  uint32_t out;
  asm("lop3.b32 %0, %1, %2, %3, 0xea;" : "=r"(out) : "r"(word), "n"(Mask), "r"(exponent));
  return out;
}

// Bytes 0 and 1, or 2 and 3, of a word as a pair of numbers.
template <bool Upper, bool Signed>
__device__ __forceinline__ __half2 byte_pair(uint32_t word) {
  const uint32_t biased = __byte_perm(word, kMagic, Upper ? 0x5352 : 0x5150);
  return __hsub2(as_half2(biased), as_half2(Signed ? k1152 : k1024));
}

// Nibbles J and J + 4 of a word as a pair of numbers.
template <int J>
__device__ __forceinline__ __half2 nibble_pair(uint32_t word) {
  const uint32_t shifted = J < 2 ? word : word >> 8;
  if constexpr (J % 2 == 0) return __hsub2(as_half2(bits_over<0x000f000f>(shifted, kMagic)), as_half2(k1024));
  else return __hfma2(as_half2(bits_over<0x00f000f0>(shifted, kMagic)), as_half2(kSixteenth), as_half2(kMinus64));
}

// Codes J of 2 bits in the lower bytes of a word's halves, as a pair of numbers.
template <int J>
__device__ __forceinline__ __half2 crumb_pair(uint32_t word) {
  // 4^-J, and 1024 of it below zero.
  constexpr uint32_t by[4] = {0x3c003c00, 0x34003400, 0x2c002c00, 0x24002400};
  constexpr uint32_t less[4] = {0xe400e400, 0xdc00dc00, 0xd400d400, 0xcc00cc00};
  const __half2 biased = as_half2(bits_over<(0x00030003u << 2 * J)>(word, kMagic));
  if constexpr (J == 0) return __hsub2(biased, as_half2(k1024));
  else return __hfma2(biased, as_half2(by[J]), as_half2(less[J]));
}

// How one half of a page is shared out: `Lanes` lanes hold a token's row, in units of one load.
template <int Bits, int Dim, int Lanes>
struct Share {
  static constexpr int kBytes = Dim * Bits / 8 / Lanes;
  static constexpr int kUnit = kBytes < 16 ? kBytes : 16;
  static constexpr int kUnits = kBytes / kUnit;
  static constexpr int kWords = (kBytes + 3) / 4;
  // Chunks of 8 channels: in a lane, and in a unit.
  static constexpr int kChunks = Dim / 8 / Lanes;
  static constexpr int kUnitChunks = kUnit / Bits;
  static __device__ __forceinline__ int chunk(int i, int lane) {
    return kUnitChunks * (Lanes * (i / kUnitChunks) + lane) + i % kUnitChunks;
  }
  static constexpr int kRow = kBytes * Lanes;
  // From the first unit of the lane on.
  static __device__ __forceinline__ void load(uint32_t (&to)[kWords], const char* from) {
#pragma unroll
    for (int u = 0; u < kUnits; u++) load_unit<kUnit>(to + u * kUnit / 4, from + kUnit * Lanes * u);
  }
};

// Uniform: pages hold a multiple of 32 tokens, so that a tile lies in one group of keys.
template <int Format, int Dim, bool Uniform>
struct CodedStore {
  using T = F16;
  static constexpr PageFormat kFormat = format_of(Format);
  static constexpr int kDim = Dim;
  static constexpr int kTiles = 2;
  static constexpr bool kByChannel = kFormat.keys.by_channel();
  static constexpr bool kSigned = kFormat.keys.symmetric;
  static constexpr bool kSlots = kByChannel && !Uniform;
  static constexpr bool kOnePage = kByChannel && Uniform && kFormat.values.coded();
  // Where arithmetic and not memory is what takes long: scales of keys go into the queries, groups' sizes are known.
  static constexpr bool kFolds = kByChannel && Uniform && kFormat.keys.bits == 2;
  static constexpr bool kAhead = false;
  static constexpr bool kAppends = false;
  static constexpr bool kKnown = kFormat.keys.bits == 2;
  static constexpr int kKeyShift = kFormat.keys.group_tokens == 64 ? 6 : 5;
  static constexpr int kValueShift = kFormat.values.group_channels == 64 ? 6 : 5;
  // What logits of folded keys are to be multiplied by: codes come as 4^(w - 12), queries as 4^(1 - w).
  static constexpr float kFoldedUnit = 4194304;
  using Keys = Share<kFormat.keys.bits, Dim, 4>;
  using Values = Share<kFormat.values.bits, Dim, 8>;
  // Where memory waits for arithmetic, tiles come through shared memory: loads into registers would be a dozen times as many
  // instructions and only one tile ahead. Rows of keys, of values, scales of keys, of values.
  static constexpr bool kStaged = kOnePage && kKnown;
  static constexpr int kTokens = 16 * kTiles;
  static constexpr int kValuesAt = kTokens * Keys::kRow;
  static constexpr int kKeyScalesAt = kValuesAt + kTokens * Values::kRow;
  static constexpr int kKeyScaleBytes = kSigned ? 2 * Dim : 4 * Dim;
  static constexpr int kValueScalesAt = kKeyScalesAt + kKeyScaleBytes;
  static constexpr int kValueScaleRow = 4 * kFormat.values.groups_across(Dim);
  static constexpr int kTileBytes = kStaged ? kValueScalesAt + kTokens * kValueScaleRow : 0;

  uint32_t k[kTiles][2][Keys::kWords];
  uint32_t v[kTiles][4][Values::kWords];
  // Pairs of scales and offsets of the lane's channels.
  uint32_t key_scale[kByChannel && Uniform ? Keys::kChunks : 1][4];
  uint32_t key_offset[kByChannel && Uniform && !kSigned ? Keys::kChunks : 1][4];
  // Scale and offset of a token's unit.
  uint32_t key_pair[kByChannel ? 1 : kTiles][2][Keys::kUnits];
  uint32_t value_pair[kTiles][4][Values::kUnits];

  static __device__ __forceinline__ int key_chunk(int i, int c) { return Keys::chunk(i, c); }
  static __device__ __forceinline__ int value_chunk(int h, int g) { return Values::chunk(h, g); }
  static __device__ bool has(int, const PageShape&) { return true; }

  // Scales of the lane's i-th chunk of channels in the group of a token; offsets stand `Dim` halves on.
  static __device__ __forceinline__ const char* channel_scales(const Slot& slot, int i, int c, const PageShape& shape) {
    const uint32_t group = slot.place >> (kKnown ? kKeyShift : shape.key_group_shift);
    const char* const scales = slot.page + shape.key_scales + group * (kSigned ? 2 * Dim : 4 * Dim);
    return scales + 16 * Keys::chunk(0, c) + 16 * Keys::chunk(i, 0);
  }
  // Bytes of a token's scales, and where those of a chunk of its value stand.
  static __device__ __forceinline__ int value_scale_row(const PageShape& shape) {
    return kKnown ? 4 * kFormat.values.groups_across(Dim) : 2 * shape.value_scale_row;
  }
  static __device__ __forceinline__ int value_scale(int chunk, const PageShape& shape) {
    return 4 * (8 * chunk >> (kKnown ? kValueShift : shape.value_group_shift));
  }

  __device__ __forceinline__ void load_keys(int t, const Slot (&slots)[2], int c, const PageShape& shape) {
#pragma unroll
    for (int s = 0; s < 2; s++) {
      Keys::load(k[t][s], slots[s].row(0, Keys::kRow, Keys::kUnit * c));
      if constexpr (!kByChannel) {
#pragma unroll
        for (int u = 0; u < Keys::kUnits; u++) {
          const int group = 8 * Keys::chunk(u * Keys::kUnitChunks, c) >> shape.value_group_shift;
          load_unit<4>(&key_pair[t][s][u], slots[s].row(shape.key_scales, 2 * shape.key_scale_row, 4 * group));
        }
      }
    }
    if constexpr (kByChannel && Uniform) {
      if (t > 0) return;
#pragma unroll
      for (int i = 0; i < Keys::kChunks; i++) {
        const char* from = channel_scales(slots[0], i, c, shape);
        load_unit<16>(key_scale[i], from);
        if constexpr (!kSigned) load_unit<16>(key_offset[i], from + 2 * Dim);
      }
    }
  }

  __device__ __forceinline__ void load_values(int t, const Slot (&slots)[4], int g, const PageShape& shape) {
#pragma unroll
    for (int s = 0; s < 4; s++) {
      Values::load(v[t][s], slots[s].row(shape.values, Values::kRow, Values::kUnit * g));
      if constexpr (kFormat.values.coded()) {
#pragma unroll
        for (int u = 0; u < Values::kUnits; u++)
          load_unit<4>(&value_pair[t][s][u],
                       slots[s].row(shape.value_scales, value_scale_row(shape),
                                    value_scale(Values::chunk(u * Values::kUnitChunks, g), shape)));
      }
    }
  }

  // A tile of a page to shared memory; read_keys() and read_values() bring it on into registers.
  static __device__ __forceinline__ void copy_tile(uint32_t to, const char* page, uint32_t place, int lane,
                                                   const PageShape& shape) {
    const auto part = [&](int64_t from, uint32_t on) { return page + (static_cast<uint32_t>(from) + on + 16 * lane); };
    copy_ahead<kTokens * Keys::kRow>(to, part(0, place * Keys::kRow), lane);
    copy_ahead<kTokens * Values::kRow>(to + kValuesAt, part(shape.values, place * Values::kRow), lane);
    copy_ahead<kKeyScaleBytes>(to + kKeyScalesAt, part(shape.key_scales, (place >> kKeyShift) * kKeyScaleBytes), lane);
    copy_ahead<kTokens * kValueScaleRow>(to + kValueScalesAt, part(shape.value_scales, place * kValueScaleRow), lane);
  }

  // Where in a tile the lane's first key, value and scales of both lie.
  struct Places {
    uint32_t key, key_scale, value, value_scale;
  };
  static __device__ __forceinline__ Places places_of(int lane) {
    const uint32_t g = lane / 4, c = lane % 4, group = 8 * Values::chunk(0, g) >> kValueShift;
    Places places{g * Keys::kRow + Keys::kUnit * c, kKeyScalesAt + 16u * Keys::chunk(0, c),
                  kValuesAt + 2 * c * Values::kRow + Values::kUnit * g, kValueScalesAt + 2 * c * kValueScaleRow + 4 * group};
    keep(places.key), keep(places.key_scale), keep(places.value), keep(places.value_scale);
    return places;
  }

  __device__ __forceinline__ void read_keys(uint32_t tile, const Places& places, int c) {
#pragma unroll
    for (int i = 0; i < Keys::kChunks; i++) {
      const uint32_t from = tile + places.key_scale + 16 * Keys::chunk(i, 0);
      read_shared<16>(key_scale[i], from);
      if constexpr (!kSigned) read_shared<16>(key_offset[i], from + 2 * Dim);
    }
#pragma unroll
    for (int t = 0; t < kTiles; t++)
#pragma unroll
      for (int s = 0; s < 2; s++)
#pragma unroll
        for (int u = 0; u < Keys::kUnits; u++)
          read_shared<Keys::kUnit>(k[t][s] + u * Keys::kUnit / 4,
                                   tile + places.key + (16 * t + 8 * s) * Keys::kRow + 4 * Keys::kUnit * u);
  }

  __device__ __forceinline__ void read_values(uint32_t tile, const Places& places) {
    static_assert(!kStaged || Values::kUnits == 1);
#pragma unroll
    for (int t = 0; t < kTiles; t++)
#pragma unroll
      for (int s = 0; s < 4; s++) {
        const int row = 16 * t + s % 2 + s / 2 * 8;
        read_shared<Values::kUnit>(v[t][s], tile + places.value + row * Values::kRow);
        read_shared<4>(&value_pair[t][s][0], tile + places.value_scale + row * kValueScaleRow);
      }
  }

  // Asks for a tile to be brought into the L2 cache: a lane each for keys, values and the scales of both.
  static __device__ __forceinline__ void fetch_tile(const char* page, uint32_t place, int lane, const PageShape& shape) {
    constexpr int kTokens = 16 * kTiles, kKeyScales = kSigned ? 2 * Dim : 4 * Dim;
    const uint32_t group = place >> (kKnown ? kKeyShift : shape.key_group_shift);
    int64_t from = place * Keys::kRow;
    int bytes = kTokens * Keys::kRow;
    if (lane == 1) from = shape.values + place * Values::kRow, bytes = kTokens * Values::kRow;
    if (lane == 2) from = shape.key_scales + group * kKeyScales, bytes = kKeyScales;
    const int row = value_scale_row(shape);
    if (lane == 3) from = shape.value_scales + place * row, bytes = kTokens * row;
    if (lane < 4) fetch_to_cache(page + from, bytes);
  }

  // Tokens from `count` of the tile on are none of the row's: their scales may be anything.
  __device__ __forceinline__ void drop_values(int count, int c) {
#pragma unroll
    for (int t = 0; t < kTiles; t++)
#pragma unroll
      for (int s = 0; s < 4; s++)
        if (16 * t + 2 * c + s % 2 + s / 2 * 8 >= count)
#pragma unroll
          for (int u = 0; u < Values::kUnits; u++) value_pair[t][s][u] = 0;
  }

  // Queries times the scales of the tile's keys, and what the offsets add to every token's logits; codes then stand for
  // keys.
  __device__ __forceinline__ void fold(const uint32_t (&q)[Dim / 32][4], uint32_t (&folded)[Dim / 32][4],
                                       float (&offsets)[2]) const {
    // 4^(1 - w).
    constexpr uint32_t by[4] = {0x44004400, 0x3c003c00, 0x34003400, 0x2c002c00};
    // Rows 0 to 7 of one product and rows 8 to 15 of the other are sums over half of the channels each, so that the
    // offsets stay in the registers that they were loaded into.
    float even[4] = {}, odd[4] = {};
#pragma unroll
    for (int i = 0; i < Keys::kChunks; i++) {
      const uint32_t (&x)[4] = key_offset[i];
      mma<T>(even, x[0], x[1], x[2], x[3], q[i][0], q[i][2]);
      mma<T>(odd, x[0], x[1], x[2], x[3], q[i][1], q[i][3]);
#pragma unroll
      for (int w = 0; w < 4; w++) {
        const __half2 scaled_query = __hmul2(as_half2(q[i][w]), as_half2(key_scale[i][w]));
        folded[i][w] = as_word(w == 1 ? scaled_query : __hmul2(scaled_query, as_half2(by[w])));
      }
    }
    offsets[0] = even[0] + odd[2];
    offsets[1] = even[1] + odd[3];
  }

  // Pairs of channels of the lane's i-th chunk of key row s; codes alone where they are not scaled.
  template <bool Scaled>
  __device__ __forceinline__ void keys(int t, int s, int i, const Slot& slot, int c, const PageShape& shape,
                                       uint32_t (&out)[4]) const {
    if constexpr (!Scaled) {
      // Bits alone are numbers below the least normal one: 2^-24 each.
      const uint32_t word = __byte_perm(k[t][s][i / 2], 0, i % 2 == 0 ? 0x4140 : 0x4342);
#pragma unroll
      for (int w = 0; w < 4; w++) out[w] = word & 0x00030003u << 2 * w;
      return;
    }
    uint32_t scale[4], offset[4] = {};
    if constexpr (!kByChannel) {
      const uint32_t pair = key_pair[t][s][i / Keys::kUnitChunks];
#pragma unroll
      for (int w = 0; w < 4; w++) {
        scale[w] = __byte_perm(pair, pair, 0x1010);
        offset[w] = __byte_perm(pair, pair, 0x3232);
      }
    } else if constexpr (Uniform) {
#pragma unroll
      for (int w = 0; w < 4; w++) {
        scale[w] = key_scale[i][w];
        if constexpr (!kSigned) offset[w] = key_offset[i][w];
      }
    } else {
      const char* from = channel_scales(slot, i, c, shape);
      load_unit<16>(scale, from);
      if constexpr (!kSigned) load_unit<16>(offset, from + 2 * Dim);
    }
    if constexpr (kFormat.keys.bits == 8) {
      const uint32_t flip = kSigned ? 0x80808080u : 0;
      const uint32_t low = k[t][s][2 * i] ^ flip, high = k[t][s][2 * i + 1] ^ flip;
      out[0] = scaled(byte_pair<false, kSigned>(low), scale[0], offset[0]);
      out[1] = scaled(byte_pair<true, kSigned>(low), scale[1], offset[1]);
      out[2] = scaled(byte_pair<false, kSigned>(high), scale[2], offset[2]);
      out[3] = scaled(byte_pair<true, kSigned>(high), scale[3], offset[3]);
    } else if constexpr (kFormat.keys.bits == 2) {
      const uint32_t word = __byte_perm(k[t][s][i / 2], 0, i % 2 == 0 ? 0x4140 : 0x4342);
      out[0] = scaled(crumb_pair<0>(word), scale[0], offset[0]);
      out[1] = scaled(crumb_pair<1>(word), scale[1], offset[1]);
      out[2] = scaled(crumb_pair<2>(word), scale[2], offset[2]);
      out[3] = scaled(crumb_pair<3>(word), scale[3], offset[3]);
    } else {
      out[0] = scaled(nibble_pair<0>(k[t][s][i]), scale[0], offset[0]);
      out[1] = scaled(nibble_pair<1>(k[t][s][i]), scale[1], offset[1]);
      out[2] = scaled(nibble_pair<2>(k[t][s][i]), scale[2], offset[2]);
      out[3] = scaled(nibble_pair<3>(k[t][s][i]), scale[3], offset[3]);
    }
  }

  // Of chunk h: pairs of tokens for channel e = 0 to 7.
  __device__ __forceinline__ void values(int t, int pair, int h, const PageShape&, uint32_t (&out)[8]) const {
    const uint32_t (&a)[Values::kWords] = v[t][2 * pair], (&b)[Values::kWords] = v[t][2 * pair + 1];
    if constexpr (!kFormat.values.coded()) {
#pragma unroll
      for (int w = 0; w < 4; w++) {
        out[2 * w] = __byte_perm(a[4 * h + w], b[4 * h + w], 0x5410);
        out[2 * w + 1] = __byte_perm(a[4 * h + w], b[4 * h + w], 0x7632);
      }
      return;
    }
    const uint32_t pair_a = value_pair[t][2 * pair][h / Values::kUnitChunks];
    const uint32_t pair_b = value_pair[t][2 * pair + 1][h / Values::kUnitChunks];
    const uint32_t scale = __byte_perm(pair_a, pair_b, 0x5410), offset = __byte_perm(pair_a, pair_b, 0x7632);
    if constexpr (kFormat.values.bits == 8) {
#pragma unroll
      for (int w = 0; w < 2; w++) {
        const uint32_t low = __byte_perm(a[2 * h + w], b[2 * h + w], 0x5140);
        const uint32_t high = __byte_perm(a[2 * h + w], b[2 * h + w], 0x7362);
        out[4 * w] = scaled(byte_pair<false, false>(low), scale, offset);
        out[4 * w + 1] = scaled(byte_pair<true, false>(low), scale, offset);
        out[4 * w + 2] = scaled(byte_pair<false, false>(high), scale, offset);
        out[4 * w + 3] = scaled(byte_pair<true, false>(high), scale, offset);
      }
    } else if constexpr (kFormat.values.bits == 2) {
      // Of two chunks a word: a byte of even channels and one of odd ones each.
      const uint32_t even = __byte_perm(a[h / 2], b[h / 2], 0x6420), odd = __byte_perm(a[h / 2], b[h / 2], 0x7531);
      const uint32_t from_16 = as_word(__hfma2(as_half2(scale), as_half2(kMinus16), as_half2(offset)));
      const uint32_t from_4 = as_word(__hfma2(as_half2(scale), as_half2(kMinus4), as_half2(offset)));
#pragma unroll
      for (int x = 0; x < 4; x++) {
        const uint32_t word = x % 2 == 0 ? even : odd;
        // Two codes of each half at a time, in bits 6 to 9: over 16 and over 4, by which the offsets are less.
        const uint32_t bits = h % 2 == 0 ? word << (x < 2 ? 6 : 2) : word >> (x < 2 ? 2 : 6);
        out[x / 2 * 4 + x % 2] = scaled(as_half2(bits_over<0x00c000c0>(bits, k16)), scale, from_16);
        out[x / 2 * 4 + x % 2 + 2] = scaled(as_half2(bits_over<0x03000300>(bits, k4)), scale, from_4);
      }
    } else {
      // Even channels lie in the lower halves of the words, odd ones in the upper.
      const uint32_t even = __byte_perm(a[h], b[h], 0x5410), odd = __byte_perm(a[h], b[h], 0x7632);
      out[0] = scaled(nibble_pair<0>(even), scale, offset);
      out[1] = scaled(nibble_pair<0>(odd), scale, offset);
      out[2] = scaled(nibble_pair<1>(even), scale, offset);
      out[3] = scaled(nibble_pair<1>(odd), scale, offset);
      out[4] = scaled(nibble_pair<2>(even), scale, offset);
      out[5] = scaled(nibble_pair<2>(odd), scale, offset);
      out[6] = scaled(nibble_pair<3>(even), scale, offset);
      out[7] = scaled(nibble_pair<3>(odd), scale, offset);
    }
  }
};

}  // namespace kvt
#endif
