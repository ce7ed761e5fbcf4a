// What a launch does about latency: loads from global memory that a thread waits for, and bytes that asynchronous
// copies have in flight meanwhile.
#ifndef PFM_EMULATOR_COUNTS_H_
#define PFM_EMULATOR_COUNTS_H_

#include <cstdint>
#include <vector>

#include "machine.h"

namespace pfm::emulator {

struct LaunchCounts {
  int64_t blocks = 0;
  int64_t threads = 0;  // per block
  // The most bytes that a block had in flight. With copies by threads: that a wait left in flight. With bulk and
  // tensor copies: when one was issued, which depends on the schedule.
  int64_t bytes_in_flight = 0;
  int64_t loads[kMaxWarps] = {};  // per warp, the most that a thread of any block made
};

// Of the launches since the last call of Configure, oldest first.
std::vector<LaunchCounts>& Counts();

// By the current thread.
void CountLoad();
void CountWait();                   // after a wait for its copies
void CountInFlight(int64_t bytes);  // of its block

}  // namespace pfm::emulator

#endif  // PFM_EMULATOR_COUNTS_H_
