// ParisKV's index of keys (calls/paris-encode.ts).
#include "paris.h"
#include "pieces.h"

namespace {

using namespace kvt;

constexpr float kThresholds[7] = {0.0843f, 0.1698f, 0.2578f, 0.3499f, 0.4487f, 0.5585f, 0.6901f};

struct Coded {
  uint8_t pattern;
  uint8_t codes[kSubspace / 2];
  uint16_t weight;  // f16
};

Coded encode_subspace(const float* x) {
  float square = 0;
  for (int64_t c = 0; c < kSubspace; c++) square += x[c] * x[c];
  const float norm = std::sqrt(square);
  const float inverse = norm == 0 ? 0 : 1 / norm;
  float agreement = 0;
  Coded out{};
  for (int64_t c = 0; c < kSubspace; c++) {
    const float size = std::fabs(x[c]) * inverse;
    int level = 0;
    for (const float threshold : kThresholds) level += size > threshold;
    agreement += size * kCentres[level];
    const int negative = x[c] < 0;
    out.codes[c / 2] = static_cast<uint8_t>(out.codes[c / 2] | (negative << 3 | level) << (4 * (c & 1)));
    out.pattern = static_cast<uint8_t>(out.pattern | negative << c);
  }
  out.weight = f16_of(agreement == 0 ? 0 : norm / agreement);
  return out;
}

kvt_status paris_encode(const CpuCall& call) {
  const int64_t rows = call.integer(KVT_PARIS_ENCODE_INT_ROWS);
  const int64_t first = call.integer(KVT_PARIS_ENCODE_INT_FROM);
  const int64_t last = call.integer(KVT_PARIS_ENCODE_INT_TO);
  const int64_t head_dim = call.integer(KVT_PARIS_ENCODE_INT_HEAD_DIM);
  const Pieces keys{call.at<const char>(KVT_PARIS_ENCODE_REF_KEYS), call.at<const uint32_t>(KVT_PARIS_ENCODE_REF_PIECES),
                    call.integer(KVT_PARIS_ENCODE_INT_PIECE_VECTORS), call.integer(KVT_PARIS_ENCODE_INT_PIECE_STRIDE),
                    call.integer(KVT_PARIS_ENCODE_INT_PIECE_BYTES)};
  const int64_t token_stride = call.integer(KVT_PARIS_ENCODE_INT_TOKEN_STRIDE);
  const int64_t code_stride = call.integer(KVT_PARIS_ENCODE_INT_CODE_STRIDE);
  const int64_t weight_stride = call.integer(KVT_PARIS_ENCODE_INT_WEIGHT_STRIDE);
  if (rows < 1 || first < 0 || last <= first || head_dim < 1 || keys.vectors < 1)
    return fail(KVT_INVALID, "paris-encode: expected rows, headDim and pieceVectors 1 or more and 0 <= from < to");
  const float* signs = call.at<const float>(KVT_PARIS_ENCODE_REF_SIGNS);
  uint8_t* ids = call.at<uint8_t>(KVT_PARIS_ENCODE_REF_IDS);
  uint8_t* codes = call.at<uint8_t>(KVT_PARIS_ENCODE_REF_CODES);
  uint16_t* weights = call.at<uint16_t>(KVT_PARIS_ENCODE_REF_WEIGHTS);
  uint32_t* counts = call.at<uint32_t>(KVT_PARIS_ENCODE_REF_COUNTS);
  const int64_t subspaces = padded_dim(head_dim) / kSubspace;
  // A thread takes whole rows, so that no two of them count in one place.
  call.threads.run(rows, [&](int64_t from, int64_t to) {
    std::vector<float> x(padded_dim(head_dim));
    for (int64_t row = from; row < to; row++)
      for (int64_t token = first; token < last; token++) {
        x.assign(x.size(), 0);
        widen(keys.at(row, token, head_dim), head_dim, x.data());
        rotate(x, signs);
        for (int64_t b = 0; b < subspaces; b++) {
          const Coded coded = encode_subspace(x.data() + b * kSubspace);
          const int64_t at = row * token_stride + token;
          ids[at * subspaces + b] = coded.pattern;
          std::memcpy(codes + at * code_stride + b * kSubspace / 2, coded.codes, sizeof coded.codes);
          weights[at * weight_stride / 2 + b] = coded.weight;
          counts[(row * subspaces + b) * kPatterns + coded.pattern]++;
        }
      }
  });
  return KVT_OK;
}

KVT_CPU_KERNEL(KVT_PARIS_ENCODE, paris_encode);

}  // namespace
