// Mistakes with asynchronous copies, double buffering and the layout of shared memory.
#ifndef PFM_EMULATOR_MISUSE_PIPELINE_KERNELS_H_
#define PFM_EMULATOR_MISUSE_PIPELINE_KERNELS_H_

#include "mistake.h"

namespace pfm::misuse {

// Every thread copies one chunk; its neighbour reads it.
enum class Copying { kNoWait, kNoCommit, kNoBarrier, kLeft, kSourceChanged };

template <Copying kHow>
struct CopyCase : Case {
  static constexpr int kSharedBytes = 64 * 16, kIn = 256;
  static uint32_t Expected(uint32_t i) { return 3 * (4 * (63 - i)) + 1; }
  static void Kernel(const Arguments arguments) {
    const int thread = ptx::ThreadIndex();
    const bool wrong = arguments.wrong;
    ptx::CopyAsync16(ChunkAt(thread), arguments.in + 4 * thread, true);
    if (!(wrong && kHow == Copying::kNoCommit)) ptx::CommitCopies();
    if (wrong && kHow == Copying::kSourceChanged) ptx::StoreGlobal(arguments.in + 4 * thread, 7u);
    if (!(wrong && kHow == Copying::kNoWait)) ptx::WaitCopies<0>();
    if (!(wrong && kHow == Copying::kNoBarrier)) ptx::SyncThreads();
    ptx::StoreGlobal(arguments.out + thread, ptx::LoadShared<uint32_t>(ChunkAt(63 - thread)));
    if (!(wrong && kHow == Copying::kLeft)) return;
    ptx::SyncThreads();
    ptx::CopyAsync16(ChunkAt(thread), arguments.in + 4 * thread, true);
    ptx::CommitCopies();
  }
};

using MissingWait = CopyCase<Copying::kNoWait>;
using MissingCommit = CopyCase<Copying::kNoCommit>;
using WaitWithoutBarrier = CopyCase<Copying::kNoBarrier>;
using CopiesLeftAtTheEnd = CopyCase<Copying::kLeft>;
using CopySourceChanged = CopyCase<Copying::kSourceChanged>;

// Two stages: while one is summed, the next tile is copied into the other.
enum class Staging { kWrongStage, kOverwritten, kLenient };

template <Staging kHow>
struct StageCase : Case {
  static constexpr int kTiles = 4, kSharedBytes = 2 * 64 * 16, kIn = kTiles * 256;
  static uint32_t Expected(uint32_t i) {
    uint32_t sum = 0;
    for (uint32_t tile = 0; tile < kTiles; ++tile) sum += 3 * (256 * tile + 4 * (63 - i)) + 1;
    return sum;
  }
  static void Copy(const Arguments& arguments, int tile) {
    const int thread = ptx::ThreadIndex();
    if (tile < kTiles) {
      ptx::CopyAsync16(ChunkAt(tile % 2 * 64 + thread), arguments.in + 256 * tile + 4 * thread, true);
    }
    ptx::CommitCopies();
  }
  static void Kernel(const Arguments arguments) {
    const int thread = ptx::ThreadIndex();
    const bool wrong = arguments.wrong;
    uint32_t sum = 0;
    Copy(arguments, 0);
    for (int tile = 0; tile < kTiles; ++tile) {
      Copy(arguments, tile + 1);
      if (wrong && kHow == Staging::kLenient) {
        ptx::WaitCopies<2>();
      } else {
        ptx::WaitCopies<1>();
      }
      ptx::SyncThreads();
      const int stage = (wrong && kHow == Staging::kWrongStage ? tile + 1 : tile) % 2;
      sum += ptx::LoadShared<uint32_t>(ChunkAt(stage * 64 + 63 - thread));
      if (!(wrong && kHow == Staging::kOverwritten)) ptx::SyncThreads();
    }
    ptx::WaitCopies<0>();
    ptx::StoreGlobal(arguments.out + thread, sum);
  }
};

using WrongStage = StageCase<Staging::kWrongStage>;
using StageOverwritten = StageCase<Staging::kOverwritten>;
using WaitTooLenient = StageCase<Staging::kLenient>;

// A warp stores rows of 128 bytes, chunk c of row r at chunk c ^ r % 8, and loads 8x8 matrices of one chunk each.
enum class Layout { kNone, kOneSide };

template <Layout kHow>
struct SwizzleCase : Case {
  static constexpr int kThreads = 32, kSharedBytes = 32 * 128, kIn = 32 * 32, kOut = 128;
  // Lane l gets words l % 4 of rows l / 4 + 8 m, chunk 2.
  static uint32_t Expected(uint32_t i) {
    const uint32_t lane = i / 4, matrix = i % 4;
    return 3 * (32 * (8 * matrix + lane / 4) + 4 * 2 + lane % 4) + 1;
  }
  static ptx::SharedAddress At(int row, int chunk, bool swizzled) {
    return ptx::DynamicShared() + 128 * row + 16 * (swizzled ? chunk ^ row % 8 : chunk);
  }
  static void Kernel(const Arguments arguments) {
    const int lane = ptx::LaneIndex();
    const auto* rows = reinterpret_cast<const ptx::Vector16*>(arguments.in);
    const bool stores = !arguments.wrong, loads = !(arguments.wrong && kHow == Layout::kNone);
    for (int chunk = 0; chunk < 8; ++chunk) {
      ptx::StoreShared(At(lane, chunk, stores), ptx::LoadGlobal(rows + 8 * lane + chunk));
    }
    ptx::SyncWarp();
    uint32_t fragment[4];
    ptx::LoadMatrices(fragment, At(lane, 2, loads));
    for (int m = 0; m < 4; ++m) ptx::StoreGlobal(arguments.out + 4 * lane + m, fragment[m]);
  }
};

using NoSwizzle = SwizzleCase<Layout::kNone>;
using SwizzleOfOneSide = SwizzleCase<Layout::kOneSide>;

}  // namespace pfm::misuse

#endif  // PFM_EMULATOR_MISUSE_PIPELINE_KERNELS_H_
