// Masks of the sm90 backward: the exact live query tiles of a key tile, and the hidden scores of a partial one.
#ifndef PFM_CUDA_SM90_BACKWARD_MASK_H_
#define PFM_CUDA_SM90_BACKWARD_MASK_H_

#include <cstdint>

#include "../backward/backward_arguments.h"
#include "../common/candidate_tiles.h"
#include "../common/shared_columns.h"
#include "backward_shared.h"

namespace pfm::cuda::sm90 {

// Visibility of one key: a bit per query.
template <int kWords>
struct alignas(4 * kWords) RowBits {
  uint32_t word[kWords];
};

// Finds the rows from row0 on that see a key of a key tile.
template <int kWords>
PFM_DEVICE inline RowBits<kWords> FindVisibleRows(const HeadMask& mask, int32_t key_tile, int key, int32_t row0) {
  RowBits<kWords> rows;
  const int32_t* begins = mask.ColumnArray(0, key_tile) + key;
#pragma unroll 1
  for (int range = 0; range <= mask.table().holes; ++range) {
    const int32_t begin = ptx::LoadGlobal(begins) - row0;
    const int32_t end = ptx::LoadGlobal(begins + mask.table().padded_keys) - row0;
#pragma unroll
    for (int word = 0; word < kWords; ++word) {
      const uint32_t inside = LowBits(end - 32 * word) & ~LowBits(begin - 32 * word);
      rows.word[word] = range == 0 ? inside : rows.word[word] & ~inside;
    }
    begins += 2 * mask.table().padded_keys;
  }
  return rows;
}

// Iterator of one warp over the live tiles of all query heads of a block, head by head. Columns decide the tiles that
// bounds leave undecided, a few keys per lane, and their visibility goes to shared memory for the consumers. For an
// ordered dquery, tiles that only the columns rule out are included, so that bounds alone tell which key tiles take
// part, and the last tile of a head comes first (dquery_order.h).
template <DquerySums kDquerySums, int kRow>
class LiveTiles {
 public:
  using Shared = BackwardShared<kRow>;
  static constexpr BackwardTile kTile = kBackward[kRow];
  static constexpr int kTileQ = kTile.tile_q, kTileK = kTile.tile_k;

  PFM_DEVICE LiveTiles(const BackwardArguments& arguments, const Shared& shared, int32_t batch, int32_t first_head,
                       int32_t key_tile)
      : arguments_(arguments),
        shared_(shared),
        batch_(batch),
        key_tile_(key_tile),
        head_(first_head),
        candidates_(mask(), key_tile) {}

  // Advances to the next tile, or returns false at the end. The bits of a partial tile go to buffer `bits`.
  PFM_DEVICE bool Next(int bits) {
    while (true) {
      const CandidateTile tile = candidates_.Next();
      if (!tile.exists()) {
        if ((head_ + 1) % arguments_.heads_per_split() == 0) return false;
        ++head_;
        candidates_ = Candidates(mask(), key_tile_);
        continue;
      }
      keys_ = tile.undecided ? Classify(tile.index * kTileQ, bits) : LiveTile::kAllVisible;
      if (!kInTurn && (keys_ & LiveTile::kAllVisible) == 0) continue;
      index_ = tile.index;
      return true;
    }
  }

  // The current tile.
  PFM_DEVICE LiveTile Tile() const {
    const int64_t row = (batch_ * arguments_.params.heads_q + head_) * arguments_.padded_rows + index_ * kTileQ;
    return {index_, head_, keys_, static_cast<int32_t>(row / 16)};
  }

 private:
  static constexpr int kKeys = kTileK / 32;
  static constexpr int kParts = kTileQ / 64;  // queries are classified in parts, to save registers
  static constexpr bool kInTurn = kDquerySums == DquerySums::kInTurn;
  using Candidates = CandidateTiles<kInTurn ? Walk::kQueryTilesFromLast : Walk::kQueryTiles, kTileQ, kTileK, true>;

  PFM_DEVICE HeadMask mask() const { return HeadMask(arguments_.mask, batch_, head_); }

  // LiveTile::keys
  PFM_DEVICE uint32_t Classify(int32_t row0, int bits) const {
    uint32_t keys = bits << 8;
#pragma unroll 1
    for (int i = 0; i < kKeys * kParts; ++i) {
      const int key = i / kParts * 32 + ptx::LaneIndex(), first = i % kParts * 64;
      const RowBits<2> visible = FindVisibleRows<2>(mask(), key_tile_, key, row0 + first);
      const int32_t rows = arguments_.mask.seqlen_q - ptx::Fresh(row0 + first);
      const bool any = (visible.word[0] | visible.word[1]) != 0;
      const bool all = visible.word[0] == LowBits(rows) && visible.word[1] == LowBits(rows - 32);
      const ptx::SharedAddress words = shared_.bits(bits).Of(key) + first / 8;
      ptx::StoreShared(words, visible.word[0]);
      ptx::StoreShared(words + 4, visible.word[1]);
      if (ptx::Ballot(!all) != 0) keys |= 1u << i / kParts;
      if (ptx::Ballot(any) != 0) keys |= 0x10000u << i / kParts;
    }
    return keys;
  }

  const BackwardArguments& arguments_;
  const Shared& shared_;
  int32_t batch_, key_tile_, head_;
  int32_t index_ = -1;
  uint32_t keys_ = 0;
  Candidates candidates_;
};

// Hides scores of a thread, keys by queries as wgmma leaves them, by the bits of its two keys. first_query: query of
// the first score, a multiple of 32.
template <class Bits, int kCount>
PFM_DEVICE inline void HideScores(const Bits& bits, int key, int first_query, float (&scores)[kCount]) {
  constexpr int kWords = 2 * kCount / 32;
  const int shift = ptx::LaneIndex() % 4 * 2;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const ptx::SharedAddress words = bits.Of(key + 8 * half) + first_query / 8;
#pragma unroll
    for (int word = 0; word < kWords; ++word) {
      const uint32_t visible = ptx::LoadShared<uint32_t>(words + 4 * word) >> shift;
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
