// Thread barriers: which warps wait, and the order they establish.
#include <algorithm>

#include "machine.h"

namespace pfm::emulator {

void Machine::AdvanceEpoch(Block& block, int warp, Where where) {
  if (block.epoch[warp] == kMaxEpoch) Fail(where, "more barriers than the emulator can count");
  block.known[warp][warp] = ++block.epoch[warp];
  if (block.async == nullptr) return;
  for (int lane = 0; lane < kLanes; ++lane) {
    const Thread& thread = block.threads[warp * kLanes + lane];
    for (size_t v = 0; v < block.clocks(); ++v) {
      block.known[warp][v] = std::max(block.known[warp][v], thread.acquired[v]);
    }
  }
}

void Machine::SyncThreads(Where where) {
  Thread& self = *current;
  Block& block = *self.block;
  Barrier& barrier = block.barriers[0];
  if (barrier.arrived == 0) {
    barrier.expected = thread_count_;
    barrier.where = where;
  } else if (!IsSamePlace(barrier.where, where)) {
    Fail(where, "threads of a block in different SyncThreads: others wait at " + Describe(barrier.where));
  }
  ++barrier.arrived;
  barrier.waiting[self.warp->index] |= 1u << self.lane;
  self.warp->runnable &= ~(1u << self.lane);
  self.waits_at = where;
  self.waits_for = "SyncThreads";
  if (barrier.arrived == barrier.expected) {
    for (size_t w = 0; w < block.warps.size(); ++w) AdvanceEpoch(block, static_cast<int>(w), where);
    for (size_t w = 0; w < block.warps.size(); ++w) barrier.clock[w] = block.epoch[w];
    for (size_t w = 0; w < block.warps.size(); ++w) {
      for (size_t v = 0; v < block.clocks(); ++v) {
        if (v != w) barrier.clock[v] = std::max(barrier.clock[v], block.known[w][v]);
      }
    }
    CompleteBarrier(block, barrier);
  }
  if (self.warp->runnable != 0 && barrier.arrived != 0) {
    RunNextOf(*self.warp);
  } else {
    SwitchToScheduler();
  }
}

// Orders all waiting warps after all arrivals, and makes them runnable.
void Machine::CompleteBarrier(Block& block, Barrier& barrier) {
  for (size_t w = 0; w < block.warps.size(); ++w) {
    if (barrier.waiting[w] == 0) continue;
    Warp& warp = block.warps[w];
    for (size_t v = 0; v < block.clocks(); ++v) {
      block.known[w][v] = std::max(block.known[w][v], barrier.clock[v]);
    }
    warp.runnable |= barrier.waiting[w];
    warp.order = Random();
  }
  barrier = Barrier();
}

void Machine::ArriveAtNamedBarrier(Warp& warp, int index, int threads, bool waits, Where where) {
  if (index < 1 || index >= kBarriers) Fail(where, "barrier " + std::to_string(index) + ": expected 1..15");
  if (threads <= 0 || threads % kLanes != 0 || threads > thread_count_) {
    Fail(where,
         "a barrier of " + std::to_string(threads) + " threads in a block of " + std::to_string(thread_count_));
  }
  Block& block = *warp.block;
  Barrier& barrier = block.barriers[index];
  if (barrier.arrived == 0) {
    barrier.expected = threads;
    barrier.where = where;
  } else if (barrier.expected != threads) {
    Fail(where, "barrier " + std::to_string(index) + " of " + std::to_string(threads) + " threads, but of " +
                    std::to_string(barrier.expected) + " at " + Describe(barrier.where));
  }
  if ((barrier.warps >> warp.index & 1) != 0) {
    Fail(where, "the warp arrives at barrier " + std::to_string(index) + " again before the barrier is complete");
  }
  barrier.warps |= 1u << warp.index;
  AdvanceEpoch(block, warp.index, where);
  for (size_t v = 0; v < block.clocks(); ++v) {
    barrier.clock[v] = std::max(barrier.clock[v], block.known[warp.index][v]);
  }
  if (waits) {
    warp.runnable = 0;
    barrier.waiting[warp.index] = kAllLanes;
    for (int lane = 0; lane < kLanes; ++lane) {
      Thread& thread = block.threads[warp.index * kLanes + lane];
      thread.waits_at = where;
      thread.waits_for = "NamedBarrierSync";
    }
  }
  barrier.arrived += kLanes;
  if (barrier.arrived == barrier.expected) CompleteBarrier(block, barrier);
}

}  // namespace pfm::emulator
