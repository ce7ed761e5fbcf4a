// C (rows x 128, float32) = A (rows x depth, K contiguous) B (depth x 128, N contiguous) by TMA, mbarriers and wgmma:
// a producer warp fills three stages; the four warps of a consumer warpgroup release them. 64 rows of C per block.
// Each Mistake breaks one rule.
#ifndef PFM_EMULATOR_SM90_GEMM_H_
#define PFM_EMULATOR_SM90_GEMM_H_

#include "cuda/ptx/sm90.h"

namespace pfm::sm90 {

namespace ptx = cuda::ptx;

enum class Mistake {
  kNone,
  kReleasedAfterBarrier,  // correct as well
  kWrongPhase,
  kNoExpectedBytes,
  kNoEmptyWait,
  kEarlyRelease,
  kEarlyReleaseOfOneWarp,
  kReleasedByOneWarp,
  kReleasedForAnother,
  kTooFewArrivals,
  kNoProxyFence,
  kNoWait,
  kNoWarpgroupFence,
  kSwappedSwizzle,
  kSwappedMajor,
  kSmallBox,
  kNoBarrierFence,
  kTooManyArrivals,
  kWrongDirection,
  kNoStoreWait,
  kNoSync,
  kOverwrittenBarrier,
  kNoCommit,
  kChangedInFlight,
};

constexpr int kTileRows = 64, kColumns = 128, kTileDepth = 64, kStages = 3, kThreads = 256, kWarpgroup = 128;
constexpr int kABytes = kTileRows * kTileDepth * 2, kBBytes = kTileDepth * kColumns * 2;
constexpr int kStageBytes = kABytes + kBBytes, kSumsBytes = kTileRows * kColumns * 4;
constexpr int kAlignment = 1024, kBarrierBytes = 16 * kStages;
constexpr int kSharedBytes = kAlignment + kStages * kStageBytes + kSumsBytes + kBarrierBytes;

struct Arguments {
  ptx::TensorMap a, b, c;
  int depth;
};

struct Plan {
  ptx::SharedAddress stages, sums, barriers;

  PFM_DEVICE ptx::SharedAddress A(int tile) const { return stages + tile % kStages * kStageBytes; }
  PFM_DEVICE ptx::SharedAddress B(int tile) const { return A(tile) + kABytes; }
  PFM_DEVICE ptx::SharedAddress Full(int tile) const { return barriers + 8 * (tile % kStages); }
  PFM_DEVICE ptx::SharedAddress Empty(int tile) const { return Full(tile) + 8 * kStages; }
};

PFM_DEVICE constexpr bool IsReleasedByOne(Mistake mistake) {
  return mistake == Mistake::kReleasedByOneWarp || mistake == Mistake::kReleasedAfterBarrier;
}

// Releases of a stage: one per warp, since a wait covers the products of its own warp only.
PFM_DEVICE constexpr int Releases(Mistake mistake) {
  return IsReleasedByOne(mistake) ? 1 : kWarpgroup / 32 - (mistake == Mistake::kTooFewArrivals);
}

template <Mistake kMistake>
PFM_DEVICE inline bool IsReleaser(int warp, int lane) {
  if (IsReleasedByOne(kMistake)) return warp == 0 && lane == 0;
  if (kMistake == Mistake::kReleasedForAnother) return warp < 2 ? warp == 0 && lane < 2 : lane == 0;
  return lane == 0 || (kMistake == Mistake::kTooManyArrivals && warp == 0 && lane == 1);
}

template <Mistake kMistake>
PFM_DEVICE constexpr bool IsEarly(int warp) {
  return kMistake == Mistake::kEarlyRelease || (kMistake == Mistake::kEarlyReleaseOfOneWarp && warp == 2);
}

PFM_DEVICE inline Plan MakePlan() {
  const ptx::SharedAddress start = (ptx::DynamicShared() + kAlignment - 1) / kAlignment * kAlignment;
  const ptx::SharedAddress sums = start + kStages * kStageBytes;
  return {start, sums, sums + kSumsBytes};
}

template <Mistake kMistake>
PFM_DEVICE inline void Produce(const Arguments& arguments, const Plan& plan, int tiles) {
  for (int tile = 0; tile < tiles; ++tile) {
    if (kMistake != Mistake::kNoEmptyWait) ptx::MbarrierWait(plan.Empty(tile), tile / kStages % 2 ^ 1);
    if (kMistake == Mistake::kNoExpectedBytes) {
      ptx::MbarrierArrive(plan.Full(tile));
    } else {
      ptx::MbarrierArriveExpectBytes(plan.Full(tile), kStageBytes);
    }
    const int depth = tile * kTileDepth;
    ptx::TmaLoad(plan.A(tile), arguments.a, {depth, ptx::BlockIndex() * kTileRows}, plan.Full(tile));
    for (int half = 0; half < 2; ++half) {
      ptx::TmaLoad(plan.B(tile) + half * kBBytes / 2, arguments.b, {half * kColumns / 2, depth}, plan.Full(tile));
    }
  }
}

template <Mistake kMistake>
PFM_DEVICE inline void Consume(const Arguments& arguments, const Plan& plan, int tiles) {
  const int thread = ptx::ThreadIndex() % kWarpgroup, warp = thread / 32, lane = thread % 32;
  const bool releases = IsReleaser<kMistake>(warp, lane), early = IsEarly<kMistake>(warp);
  float sums[kColumns / 2];
  for (int tile = 0; tile < tiles; ++tile) {
    ptx::MbarrierWait(plan.Full(tile), tile / kStages % 2 ^ (kMistake == Mistake::kWrongPhase));
    if (kMistake != Mistake::kNoWarpgroupFence) ptx::WarpgroupFence();
    for (int k = 0; k < kTileDepth; k += 16) {
      constexpr ptx::Swizzle kSwizzle = kMistake == Mistake::kSwappedSwizzle ? ptx::Swizzle::k64 : ptx::Swizzle::k128;
      const uint64_t a = ptx::MatrixDescriptor(plan.A(tile) + 2 * k, 16, 1024, kSwizzle);
      const uint64_t b = ptx::MatrixDescriptor(plan.B(tile) + 128 * k, kBBytes / 2, 1024, ptx::Swizzle::k128);
      constexpr ptx::Major kB = kMistake == Mistake::kSwappedMajor ? ptx::Major::kK : ptx::Major::kMN;
      ptx::Wgmma<ptx::BFloat16, kColumns, ptx::Major::kK, kB>(sums, a, b, tile > 0 || k > 0);
    }
    if (kMistake != Mistake::kNoCommit) ptx::WarpgroupCommit();
    if (kMistake == Mistake::kChangedInFlight) sums[0] += 1.0f;
    if (early && releases) ptx::MbarrierArrive(plan.Empty(tile));
    ptx::WarpgroupWait<1>();
    if (kMistake == Mistake::kReleasedAfterBarrier) ptx::NamedBarrierSync(1, kWarpgroup);
    if (!early && releases && tile > 0) ptx::MbarrierArrive(plan.Empty(tile - 1));
  }
  if (kMistake != Mistake::kNoWait) ptx::WarpgroupWait<0>();
  for (int i = 0; i < kColumns / 2; i += 2) {
    const int row = 16 * warp + lane / 4 + 8 * (i / 2 % 2), column = 8 * (i / 4) + 2 * (lane % 4);
    const float pair[2] = {sums[i], sums[i + 1]};
    for (int j = 0; j < 2; ++j) ptx::StoreShared(plan.sums + 4 * (row * kColumns + column + j), pair[j]);
  }
  if (kMistake != Mistake::kNoProxyFence) ptx::FenceProxyAsync();
  ptx::NamedBarrierSync(1, kWarpgroup);
  if (thread != 0) return;
  ptx::TmaStore(arguments.c, {0, ptx::BlockIndex() * kTileRows}, plan.sums);
  ptx::BulkCommit();
  if (kMistake != Mistake::kNoStoreWait) ptx::BulkWaitRead<0>();
}

template <Mistake kMistake>
PFM_KERNEL_BOUNDS(kThreads, 1)
void Gemm(PFM_KERNEL_ARGUMENT Arguments arguments) {
  const Plan plan = MakePlan();
  const int tiles = (arguments.depth + kTileDepth - 1) / kTileDepth;
  if (ptx::ThreadIndex() == 0) {
    for (int stage = 0; stage < kStages; ++stage) {
      ptx::MbarrierInit(plan.Full(stage), 1);
      ptx::MbarrierInit(plan.Empty(stage), Releases(kMistake));
    }
    if (kMistake != Mistake::kNoBarrierFence) ptx::FenceMbarrierInit();
  }
  if (kMistake != Mistake::kNoSync) ptx::SyncThreads();
  if (kMistake == Mistake::kOverwrittenBarrier) ptx::StoreShared(plan.Full(0), 0);
  if (ptx::ThreadIndex() < kWarpgroup) {
    ptx::SetMaxRegistersDown<40>();
    if (ptx::ThreadIndex() < 32 && ptx::ElectOne()) Produce<kMistake>(arguments, plan, tiles);
  } else {
    if constexpr (kMistake == Mistake::kWrongDirection) ptx::SetMaxRegistersUp<240>();
    Consume<kMistake>(arguments, plan, tiles);
  }
}

}  // namespace pfm::sm90

#endif  // PFM_EMULATOR_SM90_GEMM_H_
