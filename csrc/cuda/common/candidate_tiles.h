// Iterator over the tiles that a block may have to compute. A warp classifies 32 tiles at a time, one per lane, by
// the bounds of their columns and skips those that are empty. Every warp iterates on its own and finds the same
// tiles, so no barrier is needed.
#ifndef PFM_CUDA_COMMON_CANDIDATE_TILES_H_
#define PFM_CUDA_COMMON_CANDIDATE_TILES_H_

#include <cstdint>

#include "mask_table.h"

namespace pfm::cuda {

struct CandidateTile {
  int32_t index;   // -1 at the end
  bool undecided;  // empty, full or partial, depending on its columns; otherwise full

  PFM_DEVICE bool exists() const { return index >= 0; }
};

enum class Walk { kKeyTiles, kQueryTiles, kQueryTilesFromLast };

// Key tiles of one query tile in ascending order, or query tiles of one key tile in ascending or descending order.
// kWithinRows: query tiles before the first row that may see the key tile, and after the last one, are not visited,
// at the price of loads and registers per 32 tiles.
template <Walk kWalk, int kTileQ, int kTileK, bool kWithinRows = false>
class CandidateTiles {
 public:
  PFM_DEVICE CandidateTiles(const HeadMask& mask, int32_t fixed)
      : mask_(mask), fixed_(fixed), next_(kFromLast ? Count() : 0) {
    if constexpr (kWithinRows) next_ = Start();
  }

  PFM_DEVICE CandidateTile Next() {
    while (candidates_ == 0) {
      if (kFromLast ? next_ <= 0 : next_ >= Count()) return {-1, false};
      const int32_t tile = kFromLast ? next_ - 1 - ptx::LaneIndex() : next_ + ptx::LaneIndex();
      const bool exists = kFromLast ? tile >= 0 : tile < Count();
      const TileClass by_bounds = exists ? ByBounds(tile) : TileClass::kEmpty;
      candidates_ = ptx::Ballot(by_bounds != TileClass::kEmpty);
      undecided_ = ptx::Ballot(by_bounds == TileClass::kUndecided);
      if constexpr (kWithinRows) {
        if (candidates_ == 0 && IsBeyondRows()) next_ = kFromLast ? 0 : Count();
      }
      next_ += kFromLast ? -32 : 32;
    }
    const int lane = ptx::LowestBit(candidates_);
    candidates_ &= candidates_ - 1;
    return {kFromLast ? next_ + 31 - lane : next_ - 32 + lane, (undecided_ >> lane & 1) != 0};
  }

 private:
  static constexpr bool kFromLast = kWalk == Walk::kQueryTilesFromLast;
  static_assert(!kWithinRows || kWalk != Walk::kKeyTiles, "a query tile has no such range of key tiles");

  // First tile to classify, or in descending order the one after it.
  PFM_DEVICE int32_t Start() const {
    const RowRangeBounds rows = mask_.BoundsOf(0, fixed_);
    return kFromLast ? Min(CeilDiv(rows.max_end, kTileQ), Count()) : rows.min_begin / kTileQ;
  }

  // Whether no tile after those classified last has rows that may see the key tile. Loads the bounds again: registers
  // are scarce.
  PFM_DEVICE bool IsBeyondRows() const {
    const RowRangeBounds rows = mask_.BoundsOf(0, fixed_);
    return kFromLast ? next_ * kTileQ <= rows.min_begin : rows.max_end <= next_ * kTileQ;
  }

  PFM_DEVICE int32_t Count() const {
    return kWalk == Walk::kKeyTiles ? mask_.table().key_tiles : mask_.table().query_tiles;
  }

  PFM_DEVICE TileClass ByBounds(int32_t tile) const {
    const int32_t row0 = (kWalk == Walk::kKeyTiles ? fixed_ : tile) * kTileQ;
    const int32_t key_tile = kWalk == Walk::kKeyTiles ? tile : fixed_;
    const int32_t row1 = Min(row0 + kTileQ, mask_.table().seqlen_q);
    return mask_.ByBounds(key_tile, row0, row1, (key_tile + 1) * kTileK > mask_.table().seqlen_k);
  }

  HeadMask mask_;
  int32_t fixed_;
  int32_t next_;             // first tile not classified yet; in descending order, the last one classified
  uint32_t candidates_ = 0;  // of the 32 classified last: those neither empty nor returned yet
  uint32_t undecided_ = 0;
};

}  // namespace pfm::cuda

#endif  // PFM_CUDA_COMMON_CANDIDATE_TILES_H_
