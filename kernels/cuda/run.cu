// Enqueues lists of calls that were planned (plan.cu): streams in order, events across streams, host threads that meet
// the GPU in pinned words.
#include "run.h"

#include <algorithm>
#include <cstring>

#include "clock.h"

namespace kvt {

Run::~Run() {
  if (holds_pool_) context_->pool->stay_awake(false);
  if (stages_) context_->staging_pool->stay_awake(false);
  for (Step& step : steps_)
    for (cudaEvent_t event : {step.done, step.start, step.end})
      if (event != nullptr) cudaEventDestroy(event);
  for (cudaEvent_t event : {start_, end_, over_, fork_, join_[0], join_[1], join_[2]})
    if (event != nullptr) cudaEventDestroy(event);
  if (graph_ != nullptr) cudaGraphExecDestroy(graph_);
  cudaGetLastError();
}

namespace {

kvt_status checked_driver(CUresult result, const char* what) {
  if (result == CUDA_SUCCESS) return KVT_OK;
  if (result == CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED || result == CUDA_ERROR_NOT_SUPPORTED)
    return fail(KVT_UNSUPPORTED, "run: %s can't be recorded", what);
  return fail(KVT_FAULT, "run: %s failed with %d", what, static_cast<int>(result));
}

// For a while: what the host is waiting for itself may stand behind this kernel where kernels run one by one.
constexpr int64_t kLookNs = 1'000'000;

__global__ void look_for(const volatile uint32_t* word, uint32_t value) {
  const int64_t start = gpu_now_ns();
  while (static_cast<int32_t>(*word - value) < 0 && gpu_now_ns() - start < kLookNs) {
  }
}

}  // namespace

kvt_status Run::signal(cudaStream_t stream, int32_t at) {
  const auto address = reinterpret_cast<CUdeviceptr>(word(at));
  return checked_driver(context_->driver.write_value(stream, address, epoch_, CU_STREAM_WRITE_VALUE_DEFAULT),
                        "cuStreamWriteValue32");
}

// A stream that waits for a value looks for it every 9 us (H100, H200), a kernel as often as the link allows; once it has
// seen the value, the stream goes on at its first look.
kvt_status Run::await_soon(cudaStream_t stream, int32_t at) {
  look_for<<<1, 1, 0, stream>>>(word(at), epoch_);
  const kvt_status status = after_launch("run: wait for the host");
  return status == KVT_OK ? await(stream, at) : status;
}

kvt_status Run::await(cudaStream_t stream, int32_t at) {
  const auto address = reinterpret_cast<CUdeviceptr>(word(at));
  return checked_driver(context_->driver.wait_value(stream, address, epoch_, CU_STREAM_WAIT_VALUE_GEQ),
                        "cuStreamWaitValue32");
}

kvt_status Run::fork() {
  if (one_stream_) return KVT_OK;
  kvt_status status = checked(cudaEventRecord(fork_, origin()), "run: fork");
  for (int s = 0; s < kGpuStreams; s++)
    if (status == KVT_OK && uses_[s] && s != origin_)
      status = checked(cudaStreamWaitEvent(context_->streams[s], fork_, 0), "run: fork");
  return status == KVT_OK && uses_host_ ? signal(origin(), start_word()) : status;
}

kvt_status Run::join() {
  kvt_status status = KVT_OK;
  for (int s = 0; s < KVT_STREAMS; s++) {
    if (status != KVT_OK || !uses_[s] || s == origin_) continue;
    if (!on_gpu(s)) {
      status = await_soon(origin(), last_[s]);
      continue;
    }
    status = checked(cudaEventRecord(join_[s], context_->streams[s]), "run: join");
    if (status == KVT_OK) status = checked(cudaStreamWaitEvent(origin(), join_[s], 0), "run: join");
  }
  return status;
}

kvt_status Run::enqueue_gpu(int32_t at, Kind kind) {
  const kvt_call& call = calls_[at];
  Step& step = steps_[at];
  const cudaStream_t stream = context_->streams[call.stream];
  bool& behind_kernel = behind_kernel_[call.stream];
  if (!step.waits.empty() || kind == Kind::timed) behind_kernel = false;
  kvt_status status = KVT_OK;
  for (const int32_t before : step.waits) {
    if (status != KVT_OK) return status;
    status = on_gpu(calls_[before].stream) ? checked(cudaStreamWaitEvent(stream, steps_[before].done, 0), "run: wait")
                                           : await_soon(stream, before);
  }
  if (status == KVT_OK && kind == Kind::timed) status = checked(cudaEventRecord(step.start, stream), "run: start");
  if (status != KVT_OK) return status;
  const std::function<kvt_status(HostWork)> on_host = [&](HostWork work) {
    behind_kernel = false;
    return stage(stream, at, std::move(work), kind != Kind::recording);
  };
  const std::function<kvt_status(int)> after_host = [&](int piece) {
    behind_kernel = false;
    return await(stream, done_word(at, piece));
  };
  const std::function<kvt_status()> await_choice = [&] { return await_on_host(at); };
  CudaCall resolved{call,
                    {},
                    {},
                    {},
                    stream,
                    context_->multiprocessors,
                    context_->overlaps,
                    step.next_ahead,
                    context_->scratch[call.stream],
                    kScratchBytes,
                    kind == Kind::recording,
                    behind_kernel,
                    on_host,
                    after_host,
                    await_choice};
  std::memcpy(resolved.pointers, step.pointers, sizeof step.pointers);
  std::memcpy(resolved.bytes, step.bytes, sizeof step.bytes);
  std::memcpy(resolved.tiers, step.tiers, sizeof step.tiers);
  status = cuda_kernel(call.kernel).function(resolved);
  if (status == KVT_OK && kind == Kind::timed) status = checked(cudaEventRecord(step.end, stream), "run: end");
  if (status == KVT_OK && step.gpu_waits) status = checked(cudaEventRecord(step.done, stream), "run: done");
  if (status == KVT_OK && step.host_waits) {
    behind_kernel = false;
    status = signal(stream, at);
  }
  return status;
}

kvt_status Run::await_on_host(int32_t at) {
  // Calls that are timed one by one wait until the list is enqueued, which is now going to wait for them.
  *static_cast<volatile uint32_t*>(word(gate_word())) = epoch_;
  for (const int32_t before : steps_[at].waits) {
    if (!on_gpu(calls_[before].stream)) {
      wait_word(word(before), epoch_, abandon_);
      continue;
    }
    const kvt_status status = checked(cudaEventSynchronize(steps_[before].done), "run: wait for the choice of rows");
    if (status != KVT_OK) return status;
  }
  return KVT_OK;
}

kvt_status Run::stage(cudaStream_t stream, int32_t at, HostWork work, bool now) {
  auto& host = context_->staging[calls_[at].stream];
  if (!host) host = std::make_unique<HostStream>();
  // One core is left to the thread of the other direction, which looks for its turn: without it, one row sent back took
  // 0.4 ms beside packing on all 16 cores of an H100's host, and 8 us beside packing on 14, which was as fast.
  if (!context_->staging_pool) context_->staging_pool = make_threads(std::max(1, context_->threads - 1));
  if (!stages_) context_->staging_pool->stay_awake(true);
  stages_ = true;
  steps_[at].staged = std::move(work);
  if (steps_[at].piece_words < 0) {
    steps_[at].piece_words = words_;
    words_ += kHostPieces;
  }
  if (now) start_staged(at);
  return signal(stream, ready_word(at));
}

void Run::start_staged(int32_t at) {
  const Step& step = steps_[at];
  context_->staging[calls_[at].stream]->push([this, at, epoch = epoch_, work = step.staged] {
    const auto done = [this, at, epoch](int piece) {
      std::atomic_thread_fence(std::memory_order_release);
      *static_cast<volatile uint32_t*>(word(done_word(at, piece))) = epoch;
    };
    if (!wait_word(word(ready_word(at)), epoch, abandon_)) return;
    const auto body = [&] { return work({*context_->staging_pool, done}); };
    if (host_status_ == KVT_OK)
      if (const kvt_status status = call_guarded(kernel_name(calls_[at].kernel), body)) note_host_failure(status);
    // What was not packed is waited for all the same.
    for (int piece = 0; piece < kHostPieces; piece++) done(piece);
  });
}

void Run::note_host_failure(kvt_status status) {
  std::lock_guard<std::mutex> lock(host_message_mutex_);
  host_message_ = kvt_message();
  host_status_ = status;
}

void Run::run_on_host(int32_t at, uint32_t epoch) {
  Step& step = steps_[at];
  const kvt_call& call = calls_[at];
  bool go = host_status_ == KVT_OK;
  for (const int32_t before : step.waits) go = wait_word(word(before), epoch, abandon_) && go;
  if (go) {
    using Ns = std::chrono::duration<double, std::nano>;
    const auto zero = host_zero_[call.stream];
    CpuCall resolved{call, {}, {}, {}, *context_->pool, *context_->io, *context_->pool};
    std::memcpy(resolved.pointers, step.pointers, sizeof step.pointers);
    std::memcpy(resolved.bytes, step.bytes, sizeof step.bytes);
    std::memcpy(resolved.files, step.files, sizeof step.files);
    step.host_start_ns = Ns(std::chrono::steady_clock::now() - zero).count();
    const kvt_status status = call_guarded(cpu_kernel(call.kernel).function, resolved);
    step.host_end_ns = Ns(std::chrono::steady_clock::now() - zero).count();
    if (status != KVT_OK) note_host_failure(status);
  }
  std::atomic_thread_fence(std::memory_order_release);
  *static_cast<volatile uint32_t*>(word(at)) = epoch;
}

void Run::start_host() {
  for (int s = KVT_CPU; s < KVT_STREAMS; s++) {
    if (!uses_[s]) continue;
    context_->host[s]->push([this, s, epoch = epoch_] {
      wait_word(word(start_word()), epoch, abandon_);
      host_zero_[s] = std::chrono::steady_clock::now();
    });
  }
  for (int32_t i = 0; i < count_; i++)
    if (!on_gpu(calls_[i].stream))
      context_->host[calls_[i].stream]->push([this, i, epoch = epoch_] { run_on_host(i, epoch); });
}

kvt_status Run::enqueue(Kind kind) {
  epoch_ = ++context_->epoch;
  if (kind != Kind::recording) start_host();
  for (bool& behind : behind_kernel_) behind = false;
  kvt_status status = fork();
  for (int32_t i = 0; i < count_ && status == KVT_OK; i++)
    if (on_gpu(calls_[i].stream)) status = enqueue_gpu(i, kind);
  return status == KVT_OK ? join() : status;
}

kvt_status Run::finish(kvt_status status) {
  // What was enqueued before a failure may wait for what was not: let everybody go.
  if (status != KVT_OK) {
    abandon_ = true;
    if ((uses_host_ || stages_) && !device_lost)
      for (int32_t w = 0; w < words_; w++) *static_cast<volatile uint32_t*>(word(w)) = context_->epoch;
  }
  if (status == KVT_OK && (uses_host_ || stages_)) {
    status = checked(cudaEventRecord(over_, origin()), "run: end");
    if (status == KVT_OK) status = checked(cudaEventSynchronize(over_), "run");
  }
  for (int s = 0; s < kGpuStreams; s++) {
    if (!uses_[s] && s != origin_) continue;
    const std::string line = kvt_message();
    const kvt_status waited = wait_for(context_, s);
    if (status == KVT_OK) status = waited;
    else fail(status, "%s", line.c_str());
  }
  if (device_lost) abandon_ = true;
  for (int s = KVT_CPU; s < KVT_STREAMS; s++)
    if (uses_[s]) context_->host[s]->drain();
  for (int s = 0; s < kGpuStreams && stages_; s++)
    if (context_->staging[s]) context_->staging[s]->drain();
  if (status == KVT_OK && host_status_ != KVT_OK)
    return fail(static_cast<kvt_status>(host_status_.load()), "%s", host_message_.c_str());
  return status;
}

}  // namespace kvt
