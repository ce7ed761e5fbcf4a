// OpenMP's entry points over std::thread, for the thread sanitizer: it does not see how libgomp synchronises its team
// and would report every parallel region. What runs inside the region is the kernels' own code, unchanged.
#include <omp.h>

#include <thread>
#include <vector>

namespace {
thread_local int thread_number = 0;
}

extern "C" {

void GOMP_parallel(void (*body)(void*), void* data, unsigned threads, unsigned /*flags*/) {
  std::vector<std::thread> team;
  for (unsigned thread = 1; thread < threads; ++thread) {
    team.emplace_back([=] {
      thread_number = static_cast<int>(thread);
      body(data);
    });
  }
  body(data);
  for (std::thread& member : team) member.join();
}

int omp_get_thread_num() { return thread_number; }

int omp_get_max_threads() { return 2; }

}  // extern "C"
