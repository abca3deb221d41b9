// Products of rows with rows of bf16 weights, where several rows meet the same weights: a few rows and a few columns at a
// time, as many sums as registers hold, so that what is loaded of either is multiplied with all of the other.
#ifndef KVTIER_CPU_PRODUCTS_H
#define KVTIER_CPU_PRODUCTS_H

#include <algorithm>
#include <vector>

#include "halves.h"
#include "kernel.h"
#include "lanes.h"

namespace kvt {
// Compiled once a level: internal linkage, so that the linker can't mix levels.
namespace {

constexpr int kTileRows = 4;
// Sixteen registers hold half as many sums as thirty-two.
constexpr int kTileColumns = kLanes == 16 ? 4 : 2;
// Rows that meet columns before the next rows do: so many, and numbers that stay in a core's second cache (256 KiB).
constexpr int64_t kMostBlockRows = 64, kBlockNumbers = 65536;

constexpr int64_t padded_width(int64_t width) { return (width + kPad - 1) / kPad * kPad; }

// A product cut into pieces that threads share: blocks of rows, and where these are few, bands of columns.
struct Pieces {
  int64_t rows, columns, block, bands, band;

  Pieces(int64_t row_count, int64_t column_count, int64_t depth, int threads)
      : rows(row_count),
        columns(column_count),
        block(std::clamp<int64_t>(kBlockNumbers / padded_width(depth) / kTileRows * kTileRows, kTileRows, kMostBlockRows)) {
    constexpr int64_t kPiecesAThread = 8, kLeastBand = 64;
    const int64_t wanted = (kPiecesAThread * threads + blocks() - 1) / blocks();
    const int64_t most = std::max<int64_t>(1, columns / kLeastBand);
    band = (columns + std::min(wanted, most) - 1) / std::min(wanted, most);
    bands = (columns + band - 1) / band;
  }

  int64_t blocks() const { return (rows + block - 1) / block; }
  int64_t count() const { return blocks() * bands; }
  int64_t row(int64_t piece) const { return piece / bands * block; }
  int64_t row_end(int64_t piece) const { return std::min(rows, row(piece) + block); }
  int64_t column(int64_t piece) const { return piece % bands * band; }
  int64_t column_end(int64_t piece) const { return std::min(columns, column(piece) + band); }
};

template <int rows, int columns>
[[gnu::always_inline]] inline void tile_products(const float* row, const float* column, int64_t width, float* out,
                                                 int64_t apart) {
  Lanes sums[rows][columns] = {};
  for (int64_t d = 0; d < width; d += kLanes)
    for (int i = 0; i < rows; i++) {
      const Lanes x = lanes_at(row + i * width + d);
      for (int j = 0; j < columns; j++) sums[i][j] += x * lanes_at(column + j * width + d);
    }
  for (int i = 0; i < rows; i++)
    for (int j = 0; j < columns; j++) out[i * apart + j] = total(sums[i][j]);
}

// Weights [., depth] of bf16, of which a few columns at a time are widened and multiplied with all rows.
class Columns {
 public:
  explicit Columns(int64_t depth) : depth_(depth), width_(padded_width(depth)), wide_(kTileColumns * width_) {}

  // Numbers of a row: its depth, and zeros behind, which add nothing.
  int64_t width() const { return width_; }

  // out[i * apart + j] = row i of [count, width()] times column j of `weights`.
  void multiply(const float* rows, int64_t count, const uint16_t* weights, int64_t columns, float* out, int64_t apart) {
    int64_t j = 0;
    for (; j + kTileColumns <= columns; j += kTileColumns)
      multiply_some<kTileColumns>(rows, count, weights + j * depth_, out + j, apart);
    for (; j < columns; j++) multiply_some<1>(rows, count, weights + j * depth_, out + j, apart);
  }

 private:
  template <int columns>
  void multiply_some(const float* rows, int64_t count, const uint16_t* weights, float* out, int64_t apart) {
    for (int j = 0; j < columns; j++) widen(weights + j * depth_, depth_, wide_.data() + j * width_);
    int64_t i = 0;
    for (; i + kTileRows <= count; i += kTileRows)
      tile_products<kTileRows, columns>(rows + i * width_, wide_.data(), width_, out + i * apart, apart);
    for (; i < count; i++) tile_products<1, columns>(rows + i * width_, wide_.data(), width_, out + i * apart, apart);
  }

  const int64_t depth_, width_;
  std::vector<float> wide_;
};

}  // namespace
}  // namespace kvt

#endif
