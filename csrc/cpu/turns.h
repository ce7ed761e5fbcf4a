// Key tiles add to the dquery of a query tile in their order, whichever threads run them, so that the sums are the
// same bits in every run.
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

  // Before any other use of `item`.
  void Start(int64_t item, int64_t key_tile) const { new (key_tile_ + item) std::atomic<int64_t>(key_tile); }

  // Returns when everything before `key_tile` has been added. Whoever waits has begun after those it waits for, so
  // somebody is always able to go on.
  void Await(int64_t item, int64_t key_tile) const {
    for (int spins = 0; key_tile_[item].load(std::memory_order_acquire) != key_tile; ++spins) {
      if (spins < kSpinsBeforeYield) {
        Pause();
      } else {
        std::this_thread::yield();  // it may be a thread without a core that is waited for
      }
    }
  }

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

  std::atomic<int64_t>* key_tile_;  // [item], whose turn it is
};

}  // namespace pfm::cpu

#endif  // PFM_CPU_TURNS_H_
