// What a block has to do, as a stream of entries: a query tile, its live key tiles in ascending order, the next query
// tile, ... The scouts write it; the loader and the consumers read all of it.
#ifndef PFM_CUDA_SM90_TILE_STREAM_H_
#define PFM_CUDA_SM90_TILE_STREAM_H_

#include "pipeline.h"

namespace pfm::cuda::sm90 {

enum class EntryKind : int32_t { kQueryTile, kFullTile, kPartialTile, kStop };

struct alignas(16) Entry {
  EntryKind kind;
  int32_t tile;         // of queries or of keys
  int32_t head, batch;  // of a query tile

  PFM_DEVICE bool is_key_tile() const { return kind == EntryKind::kFullTile || kind == EntryKind::kPartialTile; }
};

// Each stage has an entry and the bits of a partial tile, as the lanes of a consumer need them: of a row, word q has
// the keys that lane q of every four holds, 8 j + 2 q + e at bit 2 j + e.
template <int kTileQ, int kTileK>
struct TileStream {
  static_assert(kTileK % 8 == 0 && kTileK <= 128, "a quarter of the keys fits a word");
  static constexpr int kStages = 4;
  static constexpr int kWords = 4;                     // of a row
  static constexpr int kKeys = kTileK / kWords;        // in a word
  static constexpr int kWordBytes = 4 * (kTileQ + 8);  // of all rows; four words of eight rows are in 32 banks
  static constexpr int kEntryBytes = sizeof(Entry);
  static constexpr int kStageBytes = kEntryBytes + kWords * kWordBytes;
  static constexpr int kBytes = kStages * kStageBytes;

  using Position = Ring<kStages>;

  ptx::SharedAddress base;

  PFM_DEVICE ptx::SharedAddress EntryAt(int stage) const { return base + stage * kStageBytes; }
  PFM_DEVICE ptx::SharedAddress Word(int stage, int word, int row) const {
    return EntryAt(stage) + kEntryBytes + word * kWordBytes + row * 4;
  }
};

}  // namespace pfm::cuda::sm90

#endif  // PFM_CUDA_SM90_TILE_STREAM_H_
