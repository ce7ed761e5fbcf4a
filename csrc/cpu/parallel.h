// Parallel loop over independent work items, which threads take one by one in order.
#ifndef PFM_CPU_PARALLEL_H_
#define PFM_CPU_PARALLEL_H_

#include <atomic>
#include <cstdint>

namespace pfm::cpu {

// True in a child process that was forked after this library was loaded, such as a data-loader worker. Everything
// runs on one thread there: the parent's OpenMP team does not exist, and such workers already share the cores.
bool InForkedChild();

// Index of the calling thread in its OpenMP team.
int ThreadInTeam();

// Calls body(item, thread) once for every item in [0, items). Results must not depend on `thread`.
template <class Body>
void ParallelFor(int64_t items, int threads, const Body& body) {
  const int64_t useful = items < threads ? items : threads;
  if (useful <= 1 || InForkedChild()) {
    for (int64_t item = 0; item < items; ++item) body(item, 0);
    return;
  }
  std::atomic<int64_t> next{0};
#pragma omp parallel num_threads(static_cast<int>(useful))
  {
    const int thread = ThreadInTeam();
    for (int64_t item = next++; item < items; item = next++) body(item, thread);
  }
}

}  // namespace pfm::cpu

#endif  // PFM_CPU_PARALLEL_H_
