// Memory faults of kernels: a wild index (data of a call, which nobody can check beforehand) must not end the process.
// A thread that runs a kernel says so; a fault there jumps back to where it said it, anywhere else it goes to whoever
// handled it before (V8 traps WebAssembly's faults so). What the kernel held is lost: it allocates little, locks nothing.
#include "faults.h"

#include "denormals.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>

#include <cstdio>
#include <mutex>
#include <stdexcept>

namespace kvt {
namespace {

struct Guard {
  sigjmp_buf back;
  volatile uintptr_t address;
};

// Of each thread, its innermost guard. Not a thread_local: its first use in a thread may allocate, which a handler may
// not, and the model that never does (initial-exec) finds no room in a library with much of its own, as CUDA's runtime.
pthread_key_t current_key() {
  static const pthread_key_t key = [] {
    pthread_key_t made;
    if (pthread_key_create(&made, nullptr) != 0) throw std::runtime_error("no key for the guards of threads");
    return made;
  }();
  return key;
}

Guard* current() { return static_cast<Guard*>(pthread_getspecific(current_key())); }
void set_current(Guard* guard) { pthread_setspecific(current_key(), guard); }

constexpr int kSignals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL};
struct sigaction previous[NSIG];

void pass_on(int signal, siginfo_t* info, void* context) {
  const struct sigaction& old = previous[signal];
  if (old.sa_flags & SA_SIGINFO) return old.sa_sigaction(signal, info, context);
  if (old.sa_handler != SIG_DFL && old.sa_handler != SIG_IGN) return old.sa_handler(signal);
  // The instruction runs again, and ends the process as if this handler had never been.
  sigaction(signal, &old, nullptr);
}

void on_fault(int signal, siginfo_t* info, void* context) {
  Guard* const guard = current();
  if (guard == nullptr) return pass_on(signal, info, context);
  guard->address = reinterpret_cast<uintptr_t>(info->si_addr);
  siglongjmp(guard->back, signal);
}

const char* name_of(int signal) {
  switch (signal) {
    case SIGFPE: return "division by zero";
    case SIGILL: return "illegal instruction";
    default: return "access to memory outside every buffer";
  }
}

}  // namespace

void install_fault_handler() {
  static std::once_flag once;
  std::call_once(once, [] {
    current_key();
    struct sigaction action = {};
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    sigemptyset(&action.sa_mask);
    for (const int signal : kSignals) sigaction(signal, &action, &previous[signal]);
  });
}

static void run_within_guard(const std::function<void()>& body) {
  Guard guard;
  guard.address = 0;
  Guard* const outer = current();
  const int signal = sigsetjmp(guard.back, 0);
  if (signal != 0) {
    set_current(outer);
    char line[96];
    std::snprintf(line, sizeof line, "%s (at %#zx)", name_of(signal), static_cast<size_t>(guard.address));
    throw std::runtime_error(line);
  }
  set_current(&guard);
  try {
    body();
  } catch (...) {
    set_current(outer);
    throw;
  }
  set_current(outer);
}

void run_guarded(const std::function<void()>& body) {
  const WithoutDenormals without_denormals;
  run_within_guard(body);
}

}  // namespace kvt
