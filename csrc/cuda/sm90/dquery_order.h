// Order of the additions to a deterministic dquery: key tiles add to the sums of a query tile of a head one after the
// other, by rank. A mark in the workspace names the rank that added last. Two producer warps handle the marks, so
// that consumers wait for an mbarrier only: one warp waits for the turn of a tile, the other one passes it on.
//
// A block waits for lower ranks only. Their blocks took earlier tickets and have started, and the lowest running rank
// waits for none, so this cannot deadlock. Query tiles are walked from the last one on: on a causal mask the lowest
// rank, which sees most of them, would otherwise be the last to arrive where the others begin.
#ifndef PFM_CUDA_SM90_DQUERY_ORDER_H_
#define PFM_CUDA_SM90_DQUERY_ORDER_H_

#include <cstdint>

#include "backward_arguments.h"
#include "backward_mask.h"
#include "backward_producer.h"
#include "backward_shared.h"

namespace pfm::cuda::sm90 {

template <int kRow>
struct DqueryOrder {
  using Shared = BackwardShared<kRow>;
  static constexpr int kTileQ = kBackward[kRow].tile_q, kTileK = kBackward[kRow].tile_k;

  // Mark left by a rank after it has added; 0 before the first one.
  PFM_DEVICE static int32_t MarkOf(int32_t rank) { return rank + 1; }

  PFM_DEVICE static int32_t* LastMark(const BackwardArguments& common, const LiveTile& tile) {
    return common.turns + tile.row_block / (kRowsPerBlock / 16);
  }

  // Mark of the nearest lower rank whose producer publishes this tile.
  PFM_DEVICE static int32_t MarkBefore(const BackwardArguments& common, const BackwardBlock& block,
                                       const LiveTile& tile) {
    const HeadMask mask(common.mask, block.batch, tile.head);
    const int32_t row0 = tile.index * kTileQ, row1 = Min(row0 + kTileQ, common.mask.seqlen_q);
#pragma unroll 1
    for (int32_t end = block.rank; end > 0; end -= kWarpThreads) {
      const int32_t rank = end - 1 - ptx::LaneIndex();
      bool takes_part = false;
      if (rank >= 0) {
        takes_part = mask.ByBounds(block.KeyTileOf(common.mask, rank), row0, row1, false) != TileClass::kEmpty;
      }
      const uint32_t found = ptx::Ballot(takes_part);
      if (found != 0) return MarkOf(end - 1 - ptx::LowestBit(found));
    }
    return 0;
  }

  PFM_DEVICE static void Await(const BackwardArguments& common, const Shared& shared) {
    const BackwardBlock block(common, shared.block_index());
    typename Shared::Stages stages = shared.stages();
    while (WaitForTile<kRow>(shared, stages)) {
      const LiveTile tile = ptx::LoadShared<LiveTile>(shared.tile(stages.stage()));
      const int32_t before = MarkBefore(common, block, tile);
      if (before != 0 && ptx::LaneIndex() == 0) {
        while (ptx::LoadAcquire(LastMark(common, tile)) != before) {
        }
      }
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
      if (ptx::LaneIndex() == 0) ptx::StoreRelease(LastMark(common, tile), MarkOf(block.rank));
      stages.Advance();
    }
  }
};

}  // namespace pfm::cuda::sm90

#endif  // PFM_CUDA_SM90_DQUERY_ORDER_H_
