// The tiles that a block has to compute, one after the other: 32 candidates are classified at once, one per lane,
// from bounds; only what bounds leave undecided is decided by the columns, all lanes together. Every warp walks on
// its own and comes to the same tiles, so no barrier is needed.
#ifndef PFM_CUDA_COMMON_LIVE_TILES_H_
#define PFM_CUDA_COMMON_LIVE_TILES_H_

#include <cstdint>

#include "mask_table.h"

namespace pfm::cuda {

struct LiveTile {
  int32_t index;  // -1: no tile is left
  bool full;      // no mask code is needed

  PFM_DEVICE bool exists() const { return index >= 0; }
};

enum class Walk { kKeyTiles, kQueryTiles };

// The live key tiles of one query tile, or the live query tiles of one key tile, in ascending order.
template <Walk kWalk, int kTileQ, int kTileK>
class LiveTiles {
 public:
  PFM_DEVICE LiveTiles(const HeadMask& mask, int64_t seqlen_k, int32_t fixed)
      : mask_(mask),
        fixed_(fixed),
        count_(kWalk == Walk::kKeyTiles ? mask.table().key_tiles : mask.table().query_tiles),
        whole_key_tiles_(static_cast<int32_t>(seqlen_k / kTileK)) {}

  PFM_DEVICE LiveTile Next() {
    while (true) {
      while (candidates_ != 0) {
        const int lane = ptx::LowestBit(candidates_);
        candidates_ &= candidates_ - 1;
        const int32_t tile = next_ - 32 + lane;
        if (full_ >> lane & 1) return {tile, true};
        const TileClass decided = Decide(tile);
        if (decided != TileClass::kEmpty) return {tile, decided == TileClass::kFull};
      }
      if (next_ >= count_) return {-1, false};
      const int32_t tile = next_ + ptx::LaneIndex();
      const TileClass by_bounds = tile < count_ ? ByBounds(tile) : TileClass::kEmpty;
      candidates_ = ptx::Ballot(by_bounds != TileClass::kEmpty);
      full_ = ptx::Ballot(by_bounds == TileClass::kFull);
      next_ += 32;
    }
  }

 private:
  PFM_DEVICE int32_t QueryTile(int32_t tile) const { return kWalk == Walk::kKeyTiles ? fixed_ : tile; }
  PFM_DEVICE int32_t KeyTile(int32_t tile) const { return kWalk == Walk::kKeyTiles ? tile : fixed_; }
  PFM_DEVICE int32_t Row0(int32_t tile) const { return QueryTile(tile) * kTileQ; }
  PFM_DEVICE int32_t Row1(int32_t tile) const { return Min(Row0(tile) + kTileQ, mask_.table().seqlen_q); }
  PFM_DEVICE bool Tail(int32_t tile) const { return KeyTile(tile) >= whole_key_tiles_; }

  PFM_DEVICE TileClass ByBounds(int32_t tile) const {
    return mask_.ByBounds(KeyTile(tile), Row0(tile), Row1(tile), Tail(tile));
  }

  PFM_DEVICE TileClass Decide(int32_t tile) const {
    return mask_.template ByColumns<kTileK>(KeyTile(tile), Row0(tile), Row1(tile), Tail(tile));
  }

  HeadMask mask_;
  int32_t fixed_, count_, whole_key_tiles_;
  int32_t next_ = 0;         // the first tile not yet looked at
  uint32_t candidates_ = 0;  // of the 32 tiles before next_: not yet walked and not surely empty
  uint32_t full_ = 0;
};

}  // namespace pfm::cuda

#endif  // PFM_CUDA_COMMON_LIVE_TILES_H_
