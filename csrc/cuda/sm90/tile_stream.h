// Work of a block as a stream of entries: a query tile, its live key tiles in ascending order, the next query tile
// and so on. The tile scheduler writes it; the loader and every consumer read all of it.
#ifndef PFM_CUDA_SM90_TILE_STREAM_H_
#define PFM_CUDA_SM90_TILE_STREAM_H_

#include "pipeline.h"

namespace pfm::cuda::sm90 {

enum class EntryKind : int16_t { kQueryTile, kKeyTile, kStop };

// Visibility of a key tile to the slices of a query tile. A slice is the 64 rows of one consumer warpgroup, which
// skips tiles that are empty for it.
constexpr int kSliceRows = 64;
constexpr int kMaxSlices = 4;
PFM_DEVICE constexpr int SeesSome(int slice) { return 1 << slice; }
PFM_DEVICE constexpr int MissesSome(int slice) { return 1 << kMaxSlices << slice; }
constexpr int kAnySees = (1 << kMaxSlices) - 1;

struct alignas(16) Entry {
  EntryKind kind;
  int16_t slices;       // key tile: SeesSome and MissesSome per slice; else 0
  int32_t tile;         // index of the query or key tile
  int32_t head, batch;  // query tile only

  PFM_DEVICE bool is_key_tile() const { return kind == EntryKind::kKeyTile; }
  PFM_DEVICE bool IsSeenBy(int slice) const { return (slices & SeesSome(slice)) != 0; }
  PFM_DEVICE bool IsPartialFor(int slice) const { return (slices & MissesSome(slice)) != 0; }
};

// Ring of entries. A stage also has the visibility bits of a partial tile in the layout of the consumers'
// accumulators: word q of a row covers the keys of lanes with lane % 4 == q, key 8 j + 2 q + e at bit 2 j + e.
template <int kTileQ, int kTileK>
struct TileStream {
  static_assert(kTileK % 8 == 0 && kTileK <= 128, "a quarter of the keys fits a word");
  static constexpr int kStages = 4;
  static constexpr int kWords = 4;                     // of a row
  static constexpr int kKeys = kTileK / kWords;        // in a word
  static constexpr int kWordBytes = 4 * (kTileQ + 8);  // of all rows; four words of eight rows lie in 32 banks
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
