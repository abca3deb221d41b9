// Streams: a thread each, in which calls run in order; `after` are events across them. compute and cpu share their calls
// out to worker threads, the copy directions are one thread each, as a DMA engine is; nvme has as many as may be queued.
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <string>
#include <thread>

#include "faults.h"
#include "machine.h"
#include "spin.h"

namespace kvt {

namespace {

// One pass over a list.
struct Pass {
  const std::vector<Resolved>& calls;
  double* start_ns;
  double* end_ns;
  std::vector<std::atomic<bool>> done;
  int64_t begin_ns = 0;
  std::atomic<int> running{0};
  std::atomic<bool> failed{false};
  std::mutex error_lock;
  kvt_status status = KVT_OK;
  std::string message;

  Pass(const std::vector<Resolved>& list, double* start, double* end)
      : calls(list), start_ns(start), end_ns(end), done(list.size()) {}

  void record(kvt_status with) {
    const std::lock_guard<std::mutex> lock(error_lock);
    if (status == KVT_OK) {
      status = with;
      message = kvt_message();
    }
    failed = true;
  }
};

// How long a stream looks for the end of another's call before it sleeps. Waking takes up to
// 70 us (two cores of a Xeon, virtual machine), after some waits and not after others of the same length. It gives way at
// once and often: a stream that was woken by another may be on its core.
constexpr int64_t kSpinNs = 200'000;
constexpr int kLooks = 16;

void await(const std::atomic<bool>& done) {
  const int64_t until = now_ns() + kSpinNs;
  for (;;) {
    for (int look = 0; look < kLooks; look++) {
      if (done.load(std::memory_order_acquire)) return;
      pause_core();
    }
    if (now_ns() >= until) return done.wait(false);
    sched_yield();
  }
}

// Threads beside those of a call's stream.
struct Others {
  Threads& io;
  Threads& host;
};

kvt_status call_kernel(const Resolved& resolved, Threads& threads, const Others& others) {
  CpuCall call{resolved.call, {}, {}, {}, threads, others.io, others.host};
  std::copy_n(resolved.pointers, KVT_MAX_REFS, call.pointers);
  std::copy_n(resolved.bytes, KVT_MAX_REFS, call.bytes);
  std::copy_n(resolved.files, KVT_MAX_REFS, call.files);
  return call_guarded(resolved.function, call);
}

void run_call(Pass& pass, size_t at, Threads& threads, const Others& others) {
  const Resolved& resolved = pass.calls[at];
  for (const int32_t earlier : resolved.call.after)
    if (earlier >= 0) await(pass.done[static_cast<size_t>(earlier)]);
  if (pass.start_ns != nullptr) pass.start_ns[at] = static_cast<double>(now_ns() - pass.begin_ns);
  if (!pass.failed)
    if (const kvt_status status = call_kernel(resolved, threads, others)) pass.record(status);
  if (pass.end_ns != nullptr) pass.end_ns[at] = static_cast<double>(now_ns() - pass.begin_ns);
  pass.done[at] = true;
  pass.done[at].notify_all();
}

}  // namespace

class Streams {
 public:
  Streams(int threads, int queue_depth)
      : workers_(make_threads(threads)),
        host_workers_(make_threads(threads)),
        alone_(make_threads(1)),
        io_(make_threads(queue_depth)) {
    for (int stream = 0; stream < KVT_STREAMS; stream++) threads_.emplace_back([this, stream] { serve(stream); });
  }

  ~Streams() {
    {
      const std::lock_guard<std::mutex> lock(lock_);
      stop_ = true;
    }
    wake_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

  Threads& workers() { return *workers_; }
  Threads& io() { return *io_; }

  kvt_status run(Pass& pass) {
    bool used[KVT_STREAMS] = {};
    for (const Resolved& resolved : pass.calls) used[resolved.call.stream] = true;
    const int count = static_cast<int>(std::count(used, used + KVT_STREAMS, true));
    pass.begin_ns = now_ns();
    if (count <= 1) {
      for (size_t at = 0; at < pass.calls.size(); at++)
        run_call(pass, at, threads_of(pass.calls[at].call.stream), others());
    } else {
      pass.running = count;
      {
        const std::lock_guard<std::mutex> lock(lock_);
        pass_ = &pass;
        std::copy_n(used, KVT_STREAMS, wanted_);
      }
      wake_.notify_all();
      for (int left = pass.running; left > 0; left = pass.running) pass.running.wait(left);
    }
    if (pass.status != KVT_OK) return fail(pass.status, "%s", pass.message.c_str());
    return KVT_OK;
  }

 private:
  Others others() { return {*io_, *host_workers_}; }

  Threads& threads_of(int32_t stream) {
    if (stream == KVT_COMPUTE) return *workers_;
    return stream == KVT_CPU ? *host_workers_ : *alone_;
  }

  void serve(int32_t stream) {
    for (;;) {
      Pass* pass;
      {
        std::unique_lock<std::mutex> lock(lock_);
        wake_.wait(lock, [&] { return stop_ || wanted_[stream]; });
        if (stop_) return;
        wanted_[stream] = false;
        pass = pass_;
      }
      for (size_t at = 0; at < pass->calls.size(); at++)
        if (pass->calls[at].call.stream == stream) run_call(*pass, at, threads_of(stream), others());
      finish(*pass);
    }
  }

  // The last stream's notification is made under the lock that run() takes before its pass goes away.
  void finish(Pass& pass) {
    const std::lock_guard<std::mutex> lock(finish_lock_);
    if (--pass.running == 0) pass.running.notify_all();
  }

  std::unique_ptr<Threads> workers_, host_workers_, alone_, io_;
  std::vector<std::thread> threads_;
  std::mutex lock_, finish_lock_;
  std::condition_variable wake_;
  bool stop_ = false;
  bool wanted_[KVT_STREAMS] = {};
  Pass* pass_ = nullptr;

 public:
  void settle() { const std::lock_guard<std::mutex> lock(finish_lock_); }
};

void StreamsDeleter::operator()(Streams* streams) const { delete streams; }

StreamsPointer make_streams(int threads, int queue_depth) {
  return StreamsPointer(new Streams(threads, queue_depth));
}

Threads& workers_of(Streams& streams) { return streams.workers(); }
Threads& io_of(Streams& streams) { return streams.io(); }

kvt_status run_once(Streams& streams, const std::vector<Resolved>& calls, double* start_ns, double* end_ns) {
  Pass pass(calls, start_ns, end_ns);
  const kvt_status status = streams.run(pass);
  streams.settle();
  return status;
}

}  // namespace kvt
