// Turns of the key tiles that add to a deterministic dquery: they add to the sums of a query tile of a head one after
// the other, by rank. A mark in the workspace names the rank that added last.
//
// A block waits for lower ranks only. Their blocks took earlier tickets and have started, and the lowest running rank
// waits for none, so this cannot deadlock. Query tiles are walked from the last one on: on a causal mask the lowest
// rank, which sees most of them, would otherwise be the last to arrive where the others begin.
#ifndef PFM_CUDA_BACKWARD_DQUERY_TURNS_H_
#define PFM_CUDA_BACKWARD_DQUERY_TURNS_H_

#include <cstdint>

#include "backward_block.h"

namespace pfm::cuda {

// Mark left by a rank after it has added; 0 before the first one.
PFM_DEVICE inline int32_t MarkOf(int32_t rank) { return rank + 1; }

// Mark of the query tile that starts in this block of 16 rows, over the padded rows of all heads.
PFM_DEVICE inline int32_t* LastMark(const BackwardArguments& arguments, int32_t row_block) {
  return arguments.turns + row_block / (kRowsPerBlock / 16);
}

// Mark of the nearest lower rank that adds to this query tile. Collective. Bounds alone decide: key tiles that only
// their columns rule out take part.
template <int kTileQ>
PFM_DEVICE inline int32_t MarkBefore(const BackwardArguments& arguments, const BackwardBlock& block, int32_t head,
                                     int32_t query_tile) {
  const HeadMask mask(arguments.mask, block.batch, head);
  const int32_t row0 = query_tile * kTileQ, row1 = Min(row0 + kTileQ, arguments.mask.seqlen_q);
#pragma unroll 1
  for (int32_t end = block.rank; end > 0; end -= 32) {
    const int32_t rank = end - 1 - ptx::LaneIndex();
    bool takes_part = false;
    if (rank >= 0) {
      takes_part = mask.ByBounds(block.KeyTileOf(arguments.mask, rank), row0, row1, false) != TileClass::kEmpty;
    }
    const uint32_t found = ptx::Ballot(takes_part);
    if (found != 0) return MarkOf(end - 1 - ptx::LowestBit(found));
  }
  return 0;
}

// Waits until all lower ranks have added to this query tile. Collective; lane 0 acquires their additions.
template <int kTileQ>
PFM_DEVICE inline void AwaitTurn(const BackwardArguments& arguments, const BackwardBlock& block, int32_t head,
                                 int32_t query_tile, int32_t row_block) {
  const int32_t before = MarkBefore<kTileQ>(arguments, block, head, query_tile);
  if (before != 0 && ptx::LaneIndex() == 0) {
    while (ptx::LoadAcquire(LastMark(arguments, row_block)) != before) {
    }
  }
}

// Lets the next rank add, once the whole block has added. Called by one thread.
PFM_DEVICE inline void PassTurn(const BackwardArguments& arguments, const BackwardBlock& block, int32_t row_block) {
  ptx::StoreRelease(LastMark(arguments, row_block), MarkOf(block.rank));
}

}  // namespace pfm::cuda

#endif  // PFM_CUDA_BACKWARD_DQUERY_TURNS_H_
