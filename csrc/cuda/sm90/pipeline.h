// Rings of stages in shared memory between producers and consumers, and ping-pong order of warpgroups.
#ifndef PFM_CUDA_SM90_PIPELINE_H_
#define PFM_CUDA_SM90_PIPELINE_H_

#include "../ptx/sm90.h"

namespace pfm::cuda::sm90 {

constexpr int kWarpThreads = 32;
constexpr int kWarpgroupThreads = 128;
constexpr int kWarpgroupWarps = kWarpgroupThreads / kWarpThreads;
constexpr int kMBarrierBytes = 8;

// Warp within the block, in a way that lets the compiler see that it is uniform.
PFM_DEVICE inline int WarpIndex() { return ptx::Shuffle(ptx::ThreadIndex() / kWarpThreads, 0); }

// Position of a thread in a ring of stages. Each stage has two mbarriers: `full` completes when it may be read,
// `empty` when it may be filled again. Every thread passes every stage in order, so the position alone determines
// stage and parity: a phase ends once per round.
template <int kStages>
class Ring {
 public:
  static_assert(kStages > 0, "there is a stage");
  static constexpr int kBarrierBytes = 2 * kStages * kMBarrierBytes;

  PFM_DEVICE explicit Ring(ptx::SharedAddress barriers) : barriers_(barriers) {}

  // Sets the numbers of arrivals that make a stage full (beside the expected bytes) and empty. Called by one thread
  // of the block, before FenceMbarrierInit and SyncThreads.
  PFM_DEVICE void Init(int fillers, int users) const {
    for (int stage = 0; stage < kStages; ++stage) {
      ptx::MbarrierInit(barriers_ + stage * kMBarrierBytes, fillers);
      ptx::MbarrierInit(barriers_ + (kStages + stage) * kMBarrierBytes, users);
    }
  }

  PFM_DEVICE uint32_t position() const { return position_; }  // stages passed so far
  PFM_DEVICE int stage() const { return position_ % kStages; }
  PFM_DEVICE ptx::SharedAddress full() const { return barriers_ + stage() * kMBarrierBytes; }
  PFM_DEVICE ptx::SharedAddress empty() const { return full() + kStages * kMBarrierBytes; }

  PFM_DEVICE void WaitEmpty() const { ptx::MbarrierWait(empty(), round() ^ 1); }
  PFM_DEVICE bool IsFull() const { return ptx::MbarrierTest(full(), round()); }
  PFM_DEVICE void WaitFull() const { ptx::MbarrierWait(full(), round()); }

  PFM_DEVICE void Advance() { ++position_; }
  // Makes the position uniform for the compiler, so that descriptors are computed once per warp.
  PFM_DEVICE void MakeUniform() { position_ = ptx::Shuffle(position_, 0); }

  // Further mbarriers, one per stage, whose phases end once per round as well. Their addresses are recomputed here
  // instead of kept in registers throughout a loop.
  PFM_DEVICE ptx::SharedAddress Along(ptx::SharedAddress barriers) const {
    return barriers + FreshPosition() % kStages * kMBarrierBytes;
  }
  PFM_DEVICE void WaitAlong(ptx::SharedAddress barriers) const {
    ptx::MbarrierWait(Along(barriers), FreshPosition() / kStages % 2);
  }

 private:
  PFM_DEVICE int round() const { return position_ / kStages % 2; }
  PFM_DEVICE uint32_t FreshPosition() const {
    return static_cast<uint32_t>(ptx::Fresh(static_cast<int32_t>(position_)));
  }

  ptx::SharedAddress barriers_;
  uint32_t position_ = 0;
};

// Releases a stage on behalf of a warp, after the reads of all its lanes. Collective.
PFM_DEVICE inline void ArriveByWarp(ptx::SharedAddress barrier) {
  ptx::SyncWarp();
  if (ptx::LaneIndex() == 0) ptx::MbarrierArrive(barrier);
}

// Ping-pong: warpgroups issue their products in a fixed cyclic order, one while the others do arithmetic. Every
// warpgroup takes the same number of turns. Uses named barriers first_barrier .. first_barrier + kWarpgroups - 1.
template <int kWarpgroups>
class PingPong {
 public:
  PFM_DEVICE PingPong(int first_barrier, int warpgroup)
      : own_(first_barrier + warpgroup), next_(first_barrier + (warpgroup + 1) % kWarpgroups), first_(first_barrier) {
    if (kWarpgroups > 1 && next_ == first_) Pass();
  }

  PFM_DEVICE void Take() const {
    if (kWarpgroups > 1) ptx::NamedBarrierSync(own_, 2 * kWarpgroupThreads);
  }
  PFM_DEVICE void Pass() const {
    if (kWarpgroups > 1) ptx::NamedBarrierArrive(next_, 2 * kWarpgroupThreads);
  }
  // Takes the turn that the last warpgroup passed on at the end.
  PFM_DEVICE void Finish() const {
    if (own_ == first_) Take();
  }

 private:
  int own_, next_, first_;
};

}  // namespace pfm::cuda::sm90

#endif  // PFM_CUDA_SM90_PIPELINE_H_
