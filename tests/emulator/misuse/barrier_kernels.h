// Mistakes with barriers and collectives.
#ifndef PFM_EMULATOR_MISUSE_BARRIER_KERNELS_H_
#define PFM_EMULATOR_MISUSE_BARRIER_KERNELS_H_

#include "mistake.h"

namespace pfm::misuse {

struct RemovedBarrier : Case {
  static uint32_t Expected(uint32_t i) { return 3 * (63 - i) + 1; }
  static void Kernel(const Arguments arguments) {
    const int thread = ptx::ThreadIndex();
    ptx::StoreShared(WordAt(thread), ptx::LoadGlobal(arguments.in + thread));
    if (!arguments.wrong) ptx::SyncThreads();
    ptx::StoreGlobal(arguments.out + thread, ptx::LoadShared<uint32_t>(WordAt(63 - thread)));
  }
};

// The second round overwrites words that a slow warp may still read.
struct RemovedTrailingBarrier : Case {
  static uint32_t Expected(uint32_t i) { return 2 * (3 * (63 - i) + 1) + 1; }
  static void Kernel(const Arguments arguments) {
    const int thread = ptx::ThreadIndex();
    const uint32_t word = ptx::LoadGlobal(arguments.in + thread);
    uint32_t sum = 0;
    for (uint32_t round = 0; round < 2; ++round) {
      ptx::StoreShared(WordAt(thread), word + round);
      ptx::SyncThreads();
      sum += ptx::LoadShared<uint32_t>(WordAt(63 - thread));
      if (!arguments.wrong) ptx::SyncThreads();
    }
    ptx::StoreGlobal(arguments.out + thread, sum);
  }
};

struct RemovedWarpBarrier : Case {
  static uint32_t Expected(uint32_t i) { return 3 * (i ^ 1) + 1; }
  static void Kernel(const Arguments arguments) {
    const int thread = ptx::ThreadIndex();
    ptx::StoreShared(WordAt(thread), ptx::LoadGlobal(arguments.in + thread));
    if (!arguments.wrong) ptx::SyncWarp();
    ptx::StoreGlobal(arguments.out + thread, ptx::LoadShared<uint32_t>(WordAt(thread ^ 1)));
  }
};

struct PlainBesideAtomic : Case {
  static constexpr int kOut = 1;
  static uint32_t Expected(uint32_t) { return 64; }
  static void Kernel(const Arguments arguments) {
    if (ptx::ThreadIndex() == 0) ptx::StoreShared(WordAt(0), 0);
    ptx::SyncThreads();
    ptx::AtomicAddShared(WordAt(0), 1);
    if (!arguments.wrong) ptx::SyncThreads();
    if (ptx::ThreadIndex() == 0) ptx::StoreGlobal(arguments.out, ptx::LoadShared<uint32_t>(WordAt(0)));
  }
};

// ---- Collectives

inline void CopyThrough(const Arguments& arguments) {
  const int thread = ptx::ThreadIndex();
  ptx::StoreGlobal(arguments.out + thread, ptx::LoadGlobal(arguments.in + thread));
}

struct DivergentShuffle : Case {
  static void Kernel(const Arguments arguments) {
    const int lane = ptx::LaneIndex();
    if (!arguments.wrong) {
      ptx::ShuffleXor(lane, 1);
    } else if (lane < 16) {
      ptx::ShuffleXor(lane, 1);
    } else {
      ptx::ShuffleXor(lane, 1);
    }
    CopyThrough(arguments);
  }
};

struct DivergentKinds : Case {
  static void Kernel(const Arguments arguments) {
    if (arguments.wrong && ptx::LaneIndex() % 2 == 0) {
      ptx::Ballot(true);
    } else {
      ptx::SyncWarp();
    }
    CopyThrough(arguments);
  }
};

struct DivergentBarrier : Case {
  static void Kernel(const Arguments arguments) {
    if (arguments.wrong && ptx::ThreadIndex() < 32) {
      ptx::SyncThreads();
    } else {
      ptx::SyncThreads();
    }
    CopyThrough(arguments);
  }
};

struct LanesReturnEarly : Case {
  static void Kernel(const Arguments arguments) {
    CopyThrough(arguments);
    if (arguments.wrong && ptx::ThreadIndex() >= 60) return;
    ptx::Ballot(true);
  }
};

// ---- Named barriers

struct DeadlockOfNamedBarriers : Case {
  static void Kernel(const Arguments arguments) {
    const int first = arguments.wrong && ptx::ThreadIndex() >= 32 ? 2 : 1;
    ptx::NamedBarrierSync(first, 64);
    ptx::NamedBarrierSync(3 - first, 64);
    CopyThrough(arguments);
  }
};

struct NamedBarrierCount : Case {
  static constexpr int kThreads = 96, kIn = 96, kOut = 96;
  static void Kernel(const Arguments arguments) {
    ptx::NamedBarrierSync(1, arguments.wrong && ptx::ThreadIndex() < 32 ? 64 : 96);
    CopyThrough(arguments);
  }
};

struct NamedBarrierTwice : Case {
  static void Kernel(const Arguments arguments) {
    CopyThrough(arguments);
    if (ptx::ThreadIndex() < 32) {
      ptx::NamedBarrierArrive(1, 64);
      if (arguments.wrong) ptx::NamedBarrierArrive(1, 64);
    } else if (!arguments.wrong) {
      ptx::NamedBarrierSync(1, 64);
    }
  }
};

struct NamedBarrierLeft : Case {
  static void Kernel(const Arguments arguments) {
    CopyThrough(arguments);
    if (ptx::ThreadIndex() < 32) {
      ptx::NamedBarrierArrive(1, 64);
    } else if (!arguments.wrong) {
      ptx::NamedBarrierSync(1, 64);
    }
  }
};

// ---- Waits that never end

struct WaitsForNobody : Case {
  static void Kernel(const Arguments arguments) {
    CopyThrough(arguments);
    if (!arguments.wrong) return;
    while (true) {
      const int seen = ptx::LaneIndex() == 0 ? ptx::LoadAcquire(arguments.flags) : 0;
      if (ptx::Shuffle(seen, 0) != 0) break;
    }
  }
};

struct EndlessLoop : Case {
  static void Kernel(const Arguments arguments) {
    CopyThrough(arguments);
    while (arguments.wrong && ptx::LoadGlobal(arguments.flags) == 0) {
    }
  }
};

}  // namespace pfm::misuse

#endif  // PFM_EMULATOR_MISUSE_BARRIER_KERNELS_H_
