// Masks of the sm90 backward: the live query tiles of a key tile, exact, and which scores of a partial one are
// hidden.
#ifndef PFM_CUDA_SM90_BACKWARD_MASK_H_
#define PFM_CUDA_SM90_BACKWARD_MASK_H_

#include <cstdint>

#include "../backward/backward_arguments.h"
#include "../common/candidate_tiles.h"
#include "../common/shared_columns.h"
#include "backward_shared.h"

namespace pfm::cuda::sm90 {

// Which of the rows from row0 on see a key of a key tile, one bit per row. From global memory: what is read is a few
// hundred bytes that the first-level cache keeps, and the registers are needed for sums.
template <int kWords>
PFM_DEVICE inline void FindVisibleRows(const HeadMask& mask, int32_t key_tile, int key, int32_t row0,
                                       uint32_t (&rows)[kWords]) {
  const int32_t* begins = mask.ColumnArray(0, key_tile) + key;
#pragma unroll 1
  for (int range = 0; range <= mask.table().holes; ++range) {
    const int32_t begin = ptx::LoadGlobal(begins) - row0;
    const int32_t end = ptx::LoadGlobal(begins + mask.table().padded_keys) - row0;
#pragma unroll
    for (int word = 0; word < kWords; ++word) {
      const uint32_t inside = LowBits(end - 32 * word) & ~LowBits(begin - 32 * word);
      rows[word] = range == 0 ? inside : rows[word] & ~inside;
    }
    begins += 2 * mask.table().padded_keys;
  }
}

// The live tiles of all query heads of a block, head by head: a warp walks them. What bounds leave undecided the
// columns decide, a few keys per lane. Where dquery is added in turns, tiles that only the columns rule out are among
// them, so that bounds alone tell who takes part; and a head's last tile comes first (dquery_order.h).
template <DquerySums kDquerySums, int kTileQ, int kTileK>
class LiveTiles {
 public:
  PFM_DEVICE LiveTiles(const BackwardArguments& arguments, int32_t batch, int32_t first_head, int32_t key_tile)
      : arguments_(arguments), batch_(batch), key_tile_(key_tile), head_(first_head), candidates_(mask(), key_tile) {}

  PFM_DEVICE LiveTile Next() {
    while (true) {
      const CandidateTile tile = candidates_.Next();
      if (!tile.exists()) {
        if ((head_ + 1) % arguments_.heads_per_split() == 0) return {-1, head_, 0, 0};
        ++head_;
        candidates_ = Candidates(mask(), key_tile_);
        continue;
      }
      const uint32_t keys = tile.undecided ? Classify(tile.index * kTileQ) : LiveTile::kAllVisible;
      if (!kInTurn && (keys & LiveTile::kAllVisible) == 0) continue;
      const int64_t row = (batch_ * arguments_.params.heads_q + head_) * arguments_.padded_rows + tile.index * kTileQ;
      return {tile.index, head_, keys, static_cast<int32_t>(row / 16)};
    }
  }

 private:
  static constexpr int kKeys = kTileK / 32;
  static constexpr bool kInTurn = kDquerySums == DquerySums::kInTurn;
  using Candidates = CandidateTiles<kInTurn ? Walk::kQueryTilesFromLast : Walk::kQueryTiles, kTileQ, kTileK>;

  PFM_DEVICE HeadMask mask() const { return HeadMask(arguments_.mask, batch_, head_); }

  // LiveTile::keys
  PFM_DEVICE uint32_t Classify(int32_t row0) const {
    const int32_t rows = arguments_.mask.seqlen_q - row0;
    uint32_t keys = 0;
#pragma unroll 1
    for (int i = 0; i < kKeys; ++i) {
      uint32_t visible[kTileQ / 32];
      FindVisibleRows(mask(), key_tile_, 32 * i + ptx::LaneIndex(), row0, visible);
      uint32_t any = 0;
      bool all = true;
#pragma unroll
      for (int word = 0; word < kTileQ / 32; ++word) {
        any |= visible[word];
        all &= visible[word] == LowBits(rows - 32 * word);
      }
      if (ptx::Ballot(!all) != 0) keys |= 1u << i;
      if (ptx::Ballot(any != 0) != 0) keys |= 0x10000u << i;
    }
    return keys;
  }

  const BackwardArguments& arguments_;
  int32_t batch_, key_tile_, head_;
  Candidates candidates_;
};

// Of the scores of a thread, keys by queries as wgmma leaves them, those that the columns of its two keys hide.
template <int kTileQ>
PFM_DEVICE inline void HideScores(const HeadMask& mask, int32_t key_tile, int key, int32_t row0,
                                  float (&scores)[kTileQ / 2]) {
  const int shift = ptx::LaneIndex() % 4 * 2;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    uint32_t rows[kTileQ / 32] = {};
    FindVisibleRows(mask, key_tile, key + 8 * half, row0, rows);
#pragma unroll
    for (int word = 0; word < kTileQ / 32; ++word) {
      const uint32_t visible = rows[word] >> shift;
#pragma unroll
      for (int n = 0; n < 4; ++n) {
        float* const pair = scores + 4 * (4 * word + n) + 2 * half;
        if ((visible & 1u << 8 * n) == 0) pair[0] = -ptx::Infinity();
        if ((visible & 2u << 8 * n) == 0) pair[1] = -ptx::Infinity();
      }
    }
  }
}

}  // namespace pfm::cuda::sm90

#endif  // PFM_CUDA_SM90_BACKWARD_MASK_H_
