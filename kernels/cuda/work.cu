// Stand-in for declared work (calls/work.ts): reads, writes and arithmetic in one kernel, so that they overlap as they
// would in a kernel of the work's own. Arithmetic is spread over the iterations of the reading loop; every second block
// writes first.
#include "launch.h"

namespace {

using namespace kvt;

constexpr int kThreads = 512;
constexpr int kUnroll = 4;
constexpr uint32_t kFactor = 2654435761u;
constexpr int64_t kProductFlops = 2 * 16 * 8 * 16;  // of one m16n8k16

// Vectors of 16 bytes first .. first + count of what is read or written, in a buffer of `capacity` of them.
struct Span {
  uint4* base;
  int64_t first, count, capacity;
};

struct Work {
  Span read, write;
  uint32_t* sum;
  float* sink;
  int fmas;   // steps of 8 independent multiply-adds a thread
  int pairs;  // of m16n8k16 a warp
};

// Place in a buffer that is gone through again from its start; it moves by less than the capacity at a time.
struct Place {
  int64_t at, step, capacity;
  __device__ Place(int64_t from, int64_t by, int64_t all) : at(from % all), step(by % all), capacity(all) {}
  __device__ __forceinline__ int64_t next() {
    const int64_t here = at;
    at += step;
    if (at >= capacity) at -= capacity;
    return here;
  }
};

struct Arithmetic {
  float x[8];
  float c[2][4] = {};

  __device__ explicit Arithmetic(int seed) {
    for (int i = 0; i < 8; i++) x[i] = seed + i;
  }
  __device__ __forceinline__ void multiply_add(int steps) {
    for (int s = 0; s < steps; s++)
#pragma unroll
      for (int i = 0; i < 8; i++) x[i] = fmaf(x[i], 0.999f, 0.5f);
  }
  __device__ __forceinline__ void products(int pairs) {
    for (int s = 0; s < pairs; s++) {
      product(c[0]);
      product(c[1]);
    }
  }
  __device__ __forceinline__ void product(float (&d)[4]) const {
    const uint32_t a = __float_as_uint(x[0]) & 0x3f803f80u;
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %4, %4, %4}, {%4, %4}, "
                 "{%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a));
  }
  __device__ float all() const {
    float sum = 0;
    for (int i = 0; i < 8; i++) sum += x[i];
    for (int i = 0; i < 4; i++) sum += c[0][i] + c[1][i];
    return sum;
  }
};

__device__ void write_all(const Span& span, int64_t thread, int64_t threads) {
  if (thread >= span.count) return;
  Place place(span.first + thread, threads, span.capacity);
  for (int64_t i = thread; i < span.count; i += threads) {
    const uint32_t word = static_cast<uint32_t>(4 * (span.first + i));
    span.base[place.next()] =
        make_uint4(word * kFactor, (word + 1) * kFactor, (word + 2) * kFactor, (word + 3) * kFactor);
  }
}

// Reads the span and computes meanwhile; returns the sum of the thread's words.
__device__ uint32_t read_all(const Work& work, int64_t thread, int64_t threads, Arithmetic& arithmetic) {
  const Span& span = work.read;
  // Whole iterations of every thread: the same number, so that warps stay together for the matrix products.
  const int64_t iterations = span.count / (threads * kUnroll);
  const int fmas = iterations > 0 ? static_cast<int>(work.fmas / iterations) : 0;
  const int pairs = iterations > 0 ? static_cast<int>(work.pairs / iterations) : 0;
  uint32_t sum = 0;
  if (span.count > 0) {
    Place place(span.first + thread, threads, span.capacity);
    for (int64_t i = 0; i < iterations; i++) {
      uint4 v[kUnroll];
#pragma unroll
      for (int u = 0; u < kUnroll; u++) v[u] = __ldcs(span.base + place.next());
      arithmetic.multiply_add(fmas);
      arithmetic.products(pairs);
#pragma unroll
      for (int u = 0; u < kUnroll; u++) sum += v[u].x + v[u].y + v[u].z + v[u].w;
    }
    for (int64_t i = iterations * threads * kUnroll + thread; i < span.count; i += threads) {
      const uint4 v = __ldcs(span.base + place.next());
      sum += v.x + v.y + v.z + v.w;
    }
  }
  arithmetic.multiply_add(static_cast<int>(work.fmas - fmas * iterations));
  arithmetic.products(static_cast<int>(work.pairs - pairs * iterations));
  return sum;
}

__global__ void __launch_bounds__(kThreads) do_work(const Work work) {
  begin_kernel();
  const int64_t thread = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  const int64_t threads = static_cast<int64_t>(gridDim.x) * kThreads;
  const bool writes_first = (blockIdx.x & 1) != 0;
  if (writes_first) write_all(work.write, thread, threads);
  Arithmetic arithmetic(static_cast<int>(threadIdx.x));
  uint32_t sum = read_all(work, thread, threads, arithmetic);
  if (!writes_first) write_all(work.write, thread, threads);
  if (work.sum != nullptr) {
    __shared__ uint32_t of_block;
    if (threadIdx.x == 0) of_block = 0;
    __syncthreads();
    sum = __reduce_add_sync(~0u, sum);
    if (threadIdx.x % 32 == 0) atomicAdd(&of_block, sum);
    __syncthreads();
    if (threadIdx.x == 0) atomicAdd(work.sum, of_block);
  } else if (sum == 0x9e3779b9u) {
    *work.sink = 1;  // makes the reads needed; hardly ever taken
  }
  if (arithmetic.all() == -1.0f) *work.sink = 2;  // never: all terms are positive
}

constexpr int64_t kVector = sizeof(uint4);

// What falls to launch `at` of `launches`.
Span part_of(const CudaCall& call, int ref, int64_t bytes, int64_t at, int64_t launches) {
  const auto before = [=](int64_t launch) { return bytes / kVector * launch / launches; };
  return {call.at<uint4>(ref), before(at), before(at + 1) - before(at), static_cast<int64_t>(call.bytes[ref]) / kVector};
}

kvt_status check(const CudaCall& call, int ref, int64_t bytes) {
  if (bytes < kVector) return KVT_OK;
  if (call.pointers[ref] == nullptr || call.bytes[ref] < kVector || reinterpret_cast<uintptr_t>(call.pointers[ref]) % kVector)
    return fail(KVT_INVALID, "work: %lld bytes to read or write; expected a buffer aligned to 16 bytes", (long long)bytes);
  return KVT_OK;
}

kvt_status work(const CudaCall& call) {
  const int64_t launches = call.integer(KVT_WORK_INT_LAUNCHES);
  const int64_t flops = call.integer(KVT_WORK_INT_FLOPS);
  const int64_t matrix_flops = call.integer(KVT_WORK_INT_MATRIX_FLOPS);
  const int64_t read = call.integer(KVT_WORK_INT_READ_BYTES);
  const int64_t write = call.integer(KVT_WORK_INT_WRITE_BYTES);
  if (launches < 1 || read < 0 || write < 0 || flops < 0 || matrix_flops < 0)
    return fail(KVT_INVALID, "work: expected launches 1 or more, bytes and flops 0 or more");
  if (const kvt_status status = check(call, KVT_WORK_REF_READ, read)) return status;
  if (const kvt_status status = check(call, KVT_WORK_REF_WRITE, write)) return status;
  for (int64_t at = 0; at < launches; at++) {
    Work part{};
    part.sum = call.at<uint32_t>(KVT_WORK_REF_SUM);
    part.sink = static_cast<float*>(call.scratch);
    part.read = part_of(call, KVT_WORK_REF_READ, read, at, launches);
    part.write = part_of(call, KVT_WORK_REF_WRITE, write, at, launches);
    const int64_t vectors = part.read.count > part.write.count ? part.read.count : part.write.count;
    const int64_t steps = (flops + matrix_flops) / launches / 64;
    const int64_t wanted = (vectors > steps ? vectors : steps) / kThreads + 1;
    const int64_t most = 4 * static_cast<int64_t>(call.multiprocessors);
    const int blocks = static_cast<int>(wanted < most ? wanted : most);
    const int64_t threads = static_cast<int64_t>(blocks) * kThreads;
    part.fmas = static_cast<int>(flops / launches / (16 * threads));
    part.pairs = static_cast<int>(matrix_flops / launches / (2 * kProductFlops * (threads / 32)));
    launch_kernel(call, do_work, {blocks, kThreads}, part);
  }
  return after_launch("work");
}

KVT_CUDA_KERNEL(KVT_WORK, work);

}  // namespace
