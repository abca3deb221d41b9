// See faults.cpp.
#ifndef KVTIER_CPU_FAULTS_H
#define KVTIER_CPU_FAULTS_H

#include <functional>

namespace kvt {

void install_fault_handler();

// Runs `body`; a memory fault in it becomes a std::runtime_error. May be nested. Only on threads that run kernels.
void run_guarded(const std::function<void()>& body);

}  // namespace kvt

#endif
