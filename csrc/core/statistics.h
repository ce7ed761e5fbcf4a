// Exact statistics of a mask: visible pairs and tile classes.
#ifndef PFM_CORE_STATISTICS_H_
#define PFM_CORE_STATISTICS_H_

#include <cstdint>
#include <vector>

#include "columns.h"
#include "tiles.h"

namespace pfm {

struct Statistics {
  int64_t total_pairs = 0;  // Sq * Sk
  int64_t visible_pairs = 0;
  int64_t full_tiles = 0;     // every pair visible
  int64_t partial_tiles = 0;  // some pairs visible
  int64_t empty_tiles = 0;    // no pair visible
};

// Calls visit(query_tile, key_tile, columns of the key tile, their count, row0, row1, class) for every tile, key tile
// by key tile. Tiles at the lower and right edge are clipped to the matrix: a clipped tile can be full.
template <class Visit>
void ForEachTile(const Column* columns, int64_t seqlen_q, int64_t seqlen_k, int64_t tile_q, int64_t tile_k,
                 Visit&& visit) {
  for (int64_t key = 0, key_tile = 0; key < seqlen_k; key += tile_k, ++key_tile) {
    const Column* first = columns + key;
    const int count = static_cast<int>(Min(tile_k, seqlen_k - key));
    const TileBounds bounds = BoundsOf(first, count);
    for (int64_t row = 0, query_tile = 0; row < seqlen_q; row += tile_q, ++query_tile) {
      const int32_t row0 = static_cast<int32_t>(row);
      const int32_t row1 = static_cast<int32_t>(Min(row + tile_q, seqlen_q));
      visit(query_tile, key_tile, first, count, row0, row1, Classify(bounds, first, count, row0, row1, false));
    }
  }
}

inline Statistics StatisticsOf(const Column* columns, int64_t seqlen_q, int64_t seqlen_k, int64_t tile_q,
                               int64_t tile_k) {
  Statistics result;
  result.total_pairs = seqlen_q * seqlen_k;
  for (int64_t key = 0; key < seqlen_k; ++key) {
    result.visible_pairs += columns[key].CountVisible(0, static_cast<int32_t>(seqlen_q));
  }
  ForEachTile(columns, seqlen_q, seqlen_k, tile_q, tile_k,
              [&](int64_t, int64_t, const Column*, int, int32_t, int32_t, TileClass tile) {
                result.full_tiles += tile == TileClass::kFull;
                result.partial_tiles += tile == TileClass::kPartial;
                result.empty_tiles += tile == TileClass::kEmpty;
              });
  return result;
}

// Counts the visible pairs of every tile: counts is [ceil(Sq / tile_q), ceil(Sk / tile_k)], row-major.
inline void CountVisiblePerTile(const Column* columns, int64_t seqlen_q, int64_t seqlen_k, int64_t tile_q,
                                int64_t tile_k, int64_t* counts) {
  const int64_t key_tiles = CeilDiv(seqlen_k, tile_k);
  ForEachTile(columns, seqlen_q, seqlen_k, tile_q, tile_k,
              [&](int64_t query_tile, int64_t key_tile, const Column* first, int count, int32_t row0, int32_t row1,
                  TileClass tile) {
                int64_t visible = tile == TileClass::kFull ? static_cast<int64_t>(row1 - row0) * count : 0;
                if (tile == TileClass::kPartial) {
                  for (int c = 0; c < count; ++c) visible += first[c].CountVisible(row0, row1);
                }
                counts[query_tile * key_tiles + key_tile] = visible;
              });
}

}  // namespace pfm

#endif  // PFM_CORE_STATISTICS_H_
