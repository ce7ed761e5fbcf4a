// Order of the additions to a deterministic dquery (dquery_turns.h). Two producer warps handle the marks, so that
// consumers wait for an mbarrier only: one warp waits for the turn of a tile, the other one passes it on.
#ifndef PFM_CUDA_SM90_DQUERY_ORDER_H_
#define PFM_CUDA_SM90_DQUERY_ORDER_H_

#include <cstdint>

#include "../backward/dquery_turns.h"
#include "backward_arguments.h"
#include "backward_shared.h"

namespace pfm::cuda::sm90 {

template <int kRow>
struct DqueryOrder {
  using Shared = BackwardShared<kRow>;
  static constexpr int kTileQ = kBackward[kRow].tile_q;

  PFM_DEVICE static void Await(const BackwardArguments& common, const Shared& shared) {
    const BackwardBlock block(common, shared.block_index());
    typename Shared::Stages stages = shared.stages();
    while (WaitForTile<kRow>(shared, stages)) {
      const LiveTile tile = ptx::LoadShared<LiveTile>(shared.tile(stages.stage()));
      AwaitTurn<kTileQ>(common, block, tile.head, tile.index, tile.row_block);
      ArriveByWarp(stages.Along(shared.turns()));
      stages.Advance();
    }
  }

  // Releases a stage only once all consumers have added, so that this warp is never a round behind.
  PFM_DEVICE static void Pass(const BackwardArguments& common, const Shared& shared) {
    const BackwardBlock block(common, shared.block_index());
    typename Shared::Stages stages = shared.stages();
    while (WaitForTile<kRow>(shared, stages)) {
      const LiveTile tile = ptx::LoadShared<LiveTile>(shared.tile(stages.stage()));
      stages.WaitAlong(shared.added());
      ArriveByWarp(stages.empty());
      if (ptx::LaneIndex() == 0) PassTurn(common, block, tile.row_block);
      stages.Advance();
    }
  }
};

}  // namespace pfm::cuda::sm90

#endif  // PFM_CUDA_SM90_DQUERY_ORDER_H_
