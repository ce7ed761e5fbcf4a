// Mistakes with shared and global memory, and with the order between blocks.
#ifndef PFM_EMULATOR_MISUSE_MEMORY_KERNELS_H_
#define PFM_EMULATOR_MISUSE_MEMORY_KERNELS_H_

#include "mistake.h"

namespace pfm::misuse {

struct SharedOutOfBounds : Case {
  static void Kernel(const Arguments arguments) {
    const int thread = ptx::ThreadIndex();
    for (int i = thread; arguments.wrong ? i <= 64 : i < 64; i += 64) {  // off by one
      ptx::StoreShared(WordAt(i), ptx::LoadGlobal(arguments.in + i % 64));
    }
    ptx::StoreGlobal(arguments.out + thread, ptx::LoadShared<uint32_t>(WordAt(thread)));
  }
};

// The maximum of shared memory belongs to the kernel: another thread may launch it between setting and using it.
inline std::string RunSharedMaximum(bool wrong, uint64_t) {
  void (*const kernel)(Arguments) = [](Arguments) {};
  for (const int most : {512, wrong ? 256 : 512}) {
    const ptx::LaunchStatus status = ptx::Launch(kernel, 1, 32, {256, most}, nullptr, Arguments{});
    if (!status.ok()) return status.message;
  }
  return "";
}

struct SharedMisaligned : Case {
  static constexpr int kSharedBytes = 64 * 16 + 16;
  static void Kernel(const Arguments arguments) {
    const int thread = ptx::ThreadIndex();
    const uint32_t word = ptx::LoadGlobal(arguments.in + thread);
    const ptx::SharedAddress at = ChunkAt(thread) + (arguments.wrong ? 8 : 0);
    ptx::StoreShared(at, ptx::Vector16{{word, word, word, word}});
    ptx::StoreGlobal(arguments.out + thread, ptx::LoadShared<uint32_t>(at + 4));
  }
};

struct SharedUnwritten : Case {
  static void Kernel(const Arguments arguments) {
    const int thread = ptx::ThreadIndex();
    if (!arguments.wrong || thread != 40) {
      ptx::StoreShared(WordAt(thread), ptx::LoadGlobal(arguments.in + thread));
    }
    ptx::SyncThreads();
    ptx::StoreGlobal(arguments.out + thread, ptx::LoadShared<uint32_t>(WordAt(thread)));
  }
};

struct SharedStartForgotten : Case {
  static void Kernel(const Arguments arguments) {
    const int thread = ptx::ThreadIndex();
    const ptx::SharedAddress at = arguments.wrong ? static_cast<ptx::SharedAddress>(4 * thread) : WordAt(thread);
    ptx::StoreShared(at, ptx::LoadGlobal(arguments.in + thread));
    ptx::StoreGlobal(arguments.out + thread, ptx::LoadShared<uint32_t>(at));
  }
};

struct GlobalOutOfBounds : Case {
  static constexpr int kBlocks = 2, kOut = 100;
  static constexpr int kIn = 100;
  static void Kernel(const Arguments arguments) {
    const int item = ptx::BlockIndex() * 64 + ptx::ThreadIndex();
    if (arguments.wrong ? item <= 100 : item < 100) {  // off by one
      ptx::StoreGlobal(arguments.out + item, ptx::LoadGlobal(arguments.in + item));
    }
  }
};

struct GlobalMisaligned : Case {
  static constexpr int kThreads = 32, kIn = 65;
  static void Kernel(const Arguments arguments) {
    const int thread = ptx::ThreadIndex();
    struct alignas(8) Pair {
      uint32_t word[2];
    };
    const uint32_t* from = arguments.in + 2 * thread + (arguments.wrong ? 1 : 0);
    ptx::StoreGlobal(reinterpret_cast<Pair*>(arguments.out) + thread,
                     ptx::LoadGlobal(reinterpret_cast<const Pair*>(from)));
  }
};

struct GlobalUnwritten : Case {
  static void Kernel(const Arguments arguments) {
    const int thread = ptx::ThreadIndex();
    if (arguments.wrong) ptx::StoreGlobal(arguments.out + thread, ptx::LoadGlobal(arguments.out + thread));
    ptx::StoreGlobal(arguments.out + thread, ptx::LoadGlobal(arguments.in + thread));
  }
};

struct OutputUnwritten : Case {
  static void Kernel(const Arguments arguments) {
    const int thread = ptx::ThreadIndex();
    if (arguments.wrong && thread == 63) return;
    ptx::StoreGlobal(arguments.out + thread, ptx::LoadGlobal(arguments.in + thread));
  }
};

struct SumNotCleared : Case {
  static constexpr int kBlocks = 3;
  static uint32_t Expected(uint32_t i) { return 3 * i; }
  static void Kernel(const Arguments arguments) {
    const int thread = ptx::ThreadIndex();
    int32_t* const sum = reinterpret_cast<int32_t*>(arguments.out) + thread;
    if (arguments.wrong) {
      ptx::AtomicAdd(sum, thread);
    } else if (ptx::BlockIndex() == 0) {
      ptx::StoreGlobal(sum, 0);
      for (int i = 0; i < 3; ++i) ptx::AtomicAdd(sum, thread);
    }
  }
};

struct BlocksWriteTheSame : Case {
  static constexpr int kBlocks = 3;
  static void Kernel(const Arguments arguments) {
    const int thread = ptx::ThreadIndex();
    if (!arguments.wrong && ptx::BlockIndex() != 0) return;
    ptx::StoreGlobal(arguments.out + thread, ptx::LoadGlobal(arguments.in + thread));
  }
};

// Each block writes every other half of a word.
struct BlocksWriteTheSameHalf : Case {
  static constexpr int kBlocks = 2, kOut = 32;
  static uint32_t Expected(uint32_t i) { return 2 * i | (2 * i + 1) << 16; }
  static void Kernel(const Arguments arguments) {
    const int block = ptx::BlockIndex();
    for (int half = 2 * ptx::ThreadIndex() + block; half < 2 * kOut; half += 2 * kThreads) {
      const int at = arguments.wrong && half == 21 ? 20 : half;
      ptx::StoreGlobal(reinterpret_cast<uint16_t*>(arguments.out) + at, static_cast<uint16_t>(half));
    }
  }
};

// Block 1 adds to half of a word that block 0 writes whole.
struct HalfOfAnothersWord : Case {
  static constexpr int kBlocks = 2, kOut = 2;
  static uint32_t Expected(uint32_t i) { return i == 0 ? 7 : 0; }
  static void Kernel(const Arguments arguments) {
    if (ptx::ThreadIndex() != 0) return;
    const int block = ptx::BlockIndex();
    if (block == 0) ptx::StoreGlobal(arguments.out, 7);
    if (block == 0) ptx::StoreGlobal(reinterpret_cast<uint16_t*>(arguments.out + 1), 0);
    if (block == 1) {
      const int half = arguments.wrong ? 1 : 3;
      ptx::StoreGlobal(reinterpret_cast<uint16_t*>(arguments.out) + half, 0);
    }
  }
};

// Block 0 overwrites its input; the others read it.
struct BlockReadsWhatAnotherWrites : Case {
  static constexpr int kBlocks = 3, kOut = 3 * 64;
  static uint32_t Expected(uint32_t i) { return 3 * (i % 64) + 1; }
  static void Kernel(const Arguments arguments) {
    const int thread = ptx::ThreadIndex();
    const int64_t block = ptx::BlockIndex();
    const uint32_t word = ptx::LoadGlobal(arguments.in + thread);
    if (arguments.wrong && block == 0) ptx::StoreGlobal(arguments.in + thread, 0);
    ptx::StoreGlobal(arguments.out + 64 * block + thread, word);
  }
};

// Block 1 overwrites the input after block 0 has read it and said so, but without a release.
struct OverwrittenAfterRead : Case {
  static constexpr int kBlocks = 2;
  static void Kernel(const Arguments arguments) {
    const int thread = ptx::ThreadIndex();
    if (ptx::BlockIndex() == 0) {
      ptx::StoreGlobal(arguments.out + thread, ptx::LoadGlobal(arguments.in + thread));
      ptx::SyncThreads();
      if (thread != 0) return;
      if (arguments.wrong) {
        ptx::AtomicAdd(arguments.flags, 1);
      } else {
        ptx::StoreRelease(arguments.flags, 1);
      }
      return;
    }
    if (thread == 0) {
      while (ptx::LoadAcquire(arguments.flags) == 0) {
      }
    }
    ptx::SyncThreads();
    ptx::StoreGlobal(arguments.in + thread, 0);
  }
};

// Block 0 passes its words to block 1 and raises a flag. `how` is the mistake.
enum class Handover { kRelaxed, kEarly, kNoBarrierBefore, kNoBarrierAfter };

template <Handover kHow>
struct HandoverCase : Case {
  static constexpr int kBlocks = 2, kOut = 128;
  static uint32_t Expected(uint32_t i) { return i < 64 ? 3 * i + 1 : 3 * (i - 64) + 2; }

  static void Produce(const Arguments& arguments) {
    const int thread = ptx::ThreadIndex();
    const bool wrong = arguments.wrong;
    if (wrong && kHow == Handover::kEarly && thread == 0) ptx::StoreRelease(arguments.flags, 1);
    ptx::StoreGlobal(arguments.out + thread, ptx::LoadGlobal(arguments.in + thread));
    if (!(wrong && kHow == Handover::kNoBarrierBefore)) ptx::SyncThreads();
    if (thread != 0) return;
    if (wrong && kHow == Handover::kRelaxed) {
      ptx::AtomicAdd(arguments.flags, 1);
    } else if (!(wrong && kHow == Handover::kEarly)) {
      ptx::StoreRelease(arguments.flags, 1);
    }
  }

  static void Kernel(const Arguments arguments) {
    const int thread = ptx::ThreadIndex();
    if (ptx::BlockIndex() == 0) return Produce(arguments);
    if (thread == 0) {
      while (ptx::LoadAcquire(arguments.flags) == 0) {
      }
    }
    if (!(arguments.wrong && kHow == Handover::kNoBarrierAfter)) ptx::SyncThreads();
    ptx::StoreGlobal(arguments.out + 64 + thread, ptx::LoadGlobal(arguments.out + thread) + 1);
  }
};

using RelaxedInsteadOfRelease = HandoverCase<Handover::kRelaxed>;
using ReleaseBeforeTheData = HandoverCase<Handover::kEarly>;
using ReleaseWithoutBarrier = HandoverCase<Handover::kNoBarrierBefore>;
using AcquireWithoutBarrier = HandoverCase<Handover::kNoBarrierAfter>;

}  // namespace pfm::misuse

#endif  // PFM_EMULATOR_MISUSE_MEMORY_KERNELS_H_
