// Shared memory plan of the sm90 backward.
#ifndef PFM_CUDA_SM90_BACKWARD_SHARED_H_
#define PFM_CUDA_SM90_BACKWARD_SHARED_H_

#include <cstdint>

#include "backward_config.h"
#include "pipeline.h"
#include "smem_tile.h"

namespace pfm::cuda::sm90 {

// Description of the tile in a stage, from the producer to the consumers.
struct alignas(16) LiveTile {
  int32_t index;  // of the query tile; -1 at the end
  int32_t head;
  uint32_t keys;      // bit i: the i-th 32 keys have hidden pairs; bit 16 + i: they have visible ones; bits 8 to 15:
                      // the buffer with the visibility of a partial tile
  int32_t row_block;  // block of 16 rows in which the tile starts, over the padded rows of all heads

  static constexpr uint32_t kAllVisible = 0xffff0000;

  PFM_DEVICE bool exists() const { return index >= 0; }
  PFM_DEVICE int bits() const { return keys >> 8 & 0xff; }
  // Whether the 64 keys of a warpgroup have hidden pairs, or no visible ones.
  PFM_DEVICE bool IsPartial(int warpgroup) const { return (keys >> 2 * warpgroup & 3) != 0; }
  PFM_DEVICE bool IsDead(int warpgroup) const { return (keys >> (16 + 2 * warpgroup) & 3) == 0; }
};

// Visibility of the pairs of a partial tile: for every key a bit per query.
template <int kTileQ, int kTileK>
struct VisibleBits {
  static constexpr int kWords = kTileQ / 32;
  static constexpr int kKeyBytes = 4 * kWords;
  static constexpr int kBytes = kTileK * kKeyBytes;

  ptx::SharedAddress base;

  PFM_DEVICE ptx::SharedAddress Of(int key) const { return base + key * kKeyBytes; }
};

template <int kRow>
class BackwardShared {
 public:
  static constexpr BackwardTile kTile = kBackward[kRow];
  using KeyTile = SmemTile<kTile.tile_k, kTile.head_dim>;
  using ValueTile = SmemTile<kTile.tile_k, kTile.head_dim_v>;
  using QueryTile = SmemTile<kTile.tile_q, kTile.head_dim>;
  using DoutTile = SmemTile<kTile.tile_q, kTile.head_dim_v>;
  using ScoreTile = SmemTile<kTile.tile_k, kTile.tile_q>;

  PFM_DEVICE BackwardShared()
      : base_((ptx::DynamicShared() + kTileAlignment - 1) / kTileAlignment * kTileAlignment) {}

  PFM_DEVICE KeyTile key() const { return {base_}; }
  PFM_DEVICE ValueTile value() const { return {base_ + KeyTile::kBytes}; }
  PFM_DEVICE QueryTile query(int stage) const { return {base_ + kStages + stage * kStageBytes}; }
  PFM_DEVICE DoutTile dout(int stage) const { return {query(stage).base + QueryTile::kBytes}; }

  // lse and delta of the rows of the query tile, float32.
  PFM_DEVICE ptx::SharedAddress lse(int stage) const { return base_ + kRows + stage * kStageRowBytes; }
  PFM_DEVICE ptx::SharedAddress delta(int stage) const { return lse(stage) + kNumbersBytes; }
  PFM_DEVICE ptx::SharedAddress tile(int stage) const { return delta(stage) + kNumbersBytes; }

  // One buffer more than stages where it fits: the producer classifies a tile while all stages are taken.
  using Bits = VisibleBits<kTile.tile_q, kTile.tile_k>;
  PFM_DEVICE Bits bits(int which) const { return {base_ + kBits + which * Bits::kBytes}; }

  // Place of this block in the order of work.
  PFM_DEVICE ptx::SharedAddress block_index_at() const { return base_ + kBlockIndex; }
  PFM_DEVICE int32_t block_index() const { return ptx::LoadShared<int32_t>(block_index_at()); }

  // mbarriers: key and value have arrived; full and empty per stage; and, for dquery in order, two more per stage:
  // its turn has come, and all consumers have added.
  PFM_DEVICE ptx::SharedAddress keys_full() const { return base_ + kBarriers; }
  using Stages = Ring<kTile.stages>;
  PFM_DEVICE Stages stages() const { return Stages(base_ + kBarriers + kMBarrierBytes); }
  PFM_DEVICE ptx::SharedAddress turns() const { return base_ + kBarriers + kMBarrierBytes + Stages::kBarrierBytes; }
  PFM_DEVICE ptx::SharedAddress added() const { return turns() + kTile.stages * kMBarrierBytes; }

  // dS^T, and P^T where the warpgroups share keys; double-buffered by tile.
  PFM_DEVICE ScoreTile dscores(const Stages& stages) const {
    return {base_ + kScores + stages.position() % 2 * ScoreTile::kBytes};
  }
  PFM_DEVICE ScoreTile probabilities(const Stages& stages) const {
    static_assert(kTile.shares_keys, "otherwise it stays in registers");
    return {dscores(stages).base + 2 * ScoreTile::kBytes};
  }

  static constexpr int kNumbersBytes = 4 * kTile.tile_q;

 private:
  static constexpr int kStageRowBytes = kTile.row_bytes();
  static constexpr int kStageBytes = QueryTile::kBytes + DoutTile::kBytes;
  static constexpr int kStages = KeyTile::kBytes + ValueTile::kBytes;
  static constexpr int kScores = kStages + kTile.stages * kStageBytes;
  static constexpr int kRows = kScores + kTile.score_tiles() * ScoreTile::kBytes;
  static constexpr int kBits = kRows + kTile.stages * kTile.row_bytes();
  static constexpr int kBarriers = kBits + kTile.bit_tiles * Bits::kBytes;
  static constexpr int kBlockIndex = kBarriers + kMBarrierBytes + 2 * Stages::kBarrierBytes;
  static_assert(kBarriers % 16 == 0 && kScores % kTileAlignment == 0, "aligned");
  static_assert(kTileSlack + kBlockIndex + 8 == kTile.shared_bytes(), "the plan is what the table says");

  ptx::SharedAddress base_;
};

constexpr int kConsumerThreads = kConsumers * kWarpgroupThreads;
constexpr int kConsumersBarrier = 1,
              kWarpgroupBarrier = 2;  // named barriers; a warpgroup has its own

// Waits for the next stage. Returns whether it holds a tile.
template <int kRow>
PFM_DEVICE inline bool WaitForTile(const BackwardShared<kRow>& shared,
                                   const typename BackwardShared<kRow>::Stages& stages) {
  stages.WaitFull();
  return ptx::LoadShared<LiveTile>(shared.tile(stages.stage())).exists();
}

// First of the two rows of a thread among 64.
PFM_DEVICE inline int ThreadRow() { return ptx::ThreadIndex() / 32 % 4 * 16 + ptx::LaneIndex() / 4; }

}  // namespace pfm::cuda::sm90

#endif  // PFM_CUDA_SM90_BACKWARD_SHARED_H_
