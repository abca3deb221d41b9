// Arithmetic without denormals while this lives: numbers below 1e-38 count as zero. Products of them take a processor ten
// times as long and more (a Xeon: 5 to 10 ns instead of 0.55), so that a kernel's time would depend on its data.
#ifndef KVTIER_CPU_DENORMALS_H
#define KVTIER_CPU_DENORMALS_H

#include <cstdint>

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace kvt {

class WithoutDenormals {
 public:
  WithoutDenormals() : before_(state()) { set(before_ | kFlush); }
  ~WithoutDenormals() { set(before_); }
  WithoutDenormals(const WithoutDenormals&) = delete;

 private:
#if defined(__SSE2__)
  using State = uint32_t;
  static constexpr State kFlush = 0x8040;  // results (FTZ) and operands (DAZ)
  static State state() { return _mm_getcsr(); }
  static void set(State state) { _mm_setcsr(state); }
#elif defined(__aarch64__)
  using State = uint64_t;
  static constexpr State kFlush = 1ull << 24;  // FZ
  static State state() {
    State state;
    asm volatile("mrs %0, fpcr" : "=r"(state));
    return state;
  }
  static void set(State state) { asm volatile("msr fpcr, %0" : : "r"(state)); }
#else
  using State = int;
  static constexpr State kFlush = 0;
  static State state() { return 0; }
  static void set(State) {}
#endif

  State before_;
};

}  // namespace kvt

#endif
