// Fixed order of the key tiles that add to the dquery of a query tile, whichever threads run them. It makes the sums
// bit-identical in every run.
#ifndef PFM_CPU_TURNS_H_
#define PFM_CPU_TURNS_H_

#include <atomic>
#include <cstdint>
#include <new>
#include <thread>

#include "arena.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace pfm::cpu {

class Turns {
 public:
  Turns(int64_t count, Arena* arena) : key_tile_(arena->Take<std::atomic<int64_t>>(count)) {}

  // Sets the first key tile of `item`. Call it before any other function for `item`.
  void Start(int64_t item, int64_t key_tile) const { new (key_tile_ + item) std::atomic<int64_t>(key_tile); }

  // Waits until all live key tiles before `key_tile` have been added. A thread waits only for items that were taken
  // before its own, so there is no deadlock.
  void Await(int64_t item, int64_t key_tile) const {
    for (int spins = 0; key_tile_[item].load(std::memory_order_acquire) != key_tile; ++spins) {
      if (spins < kSpinsBeforeYield) {
        Pause();
      } else {
        std::this_thread::yield();  // the awaited thread may need this core
      }
    }
  }

  // Lets `next_key_tile` add to `item`.
  void Pass(int64_t item, int64_t next_key_tile) const {
    key_tile_[item].store(next_key_tile, std::memory_order_release);
  }

 private:
  static constexpr int kSpinsBeforeYield = 1000;

  static void Pause() {
#if defined(__x86_64__)
    _mm_pause();
#endif
  }

  std::atomic<int64_t>* key_tile_;  // [item]: the key tile that may add next
};

}  // namespace pfm::cpu

#endif  // PFM_CPU_TURNS_H_
