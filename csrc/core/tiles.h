// Exact classification of a tile of the score matrix: rows [row0, row1) x the keys of one key tile.
//
// Bounds over a key tile decide most tiles in constant time; the columns decide the others. A tile is computed iff it
// holds a visible pair, and masked iff it also holds a hidden pair.
#ifndef PFM_CORE_TILES_H_
#define PFM_CORE_TILES_H_

#include <cstdint>

#include "columns.h"

namespace pfm {

enum class TileClass : uint8_t { kEmpty, kPartial, kFull, kUndecided };

// Minimum and maximum of a range's begin and end over the columns of one key tile.
struct RowRangeBounds {
  int32_t min_begin, max_begin;
  int32_t min_end, max_end;
};

struct TileBounds {
  RowRangeBounds visible;
  RowRangeBounds hole[kMaxHoles];
};

PFM_HOST_DEVICE RowRangeBounds NoBounds() { return {INT32_MAX, INT32_MIN, INT32_MAX, INT32_MIN}; }

PFM_HOST_DEVICE void Extend(RowRangeBounds* bounds, RowRange range) {
  bounds->min_begin = Min(bounds->min_begin, range.begin);
  bounds->max_begin = Max(bounds->max_begin, range.begin);
  bounds->min_end = Min(bounds->min_end, range.end);
  bounds->max_end = Max(bounds->max_end, range.end);
}

PFM_HOST_DEVICE TileBounds BoundsOf(const Column* columns, int count) {
  TileBounds bounds = {NoBounds(), {NoBounds(), NoBounds()}};
  for (int c = 0; c < count; ++c) {
    Extend(&bounds.visible, columns[c].visible);
    for (int h = 0; h < kMaxHoles; ++h) Extend(&bounds.hole[h], columns[c].hole[h]);
  }
  return bounds;
}

// Classifies a tile by bounds alone. `tail`: the tile reaches beyond the last key, so it cannot be kFull.
PFM_HOST_DEVICE TileClass ClassifyByBounds(const TileBounds& bounds, int32_t row0, int32_t row1, bool tail) {
  if (row1 <= bounds.visible.min_begin || row0 >= bounds.visible.max_end) return TileClass::kEmpty;
  bool touched = false;
  for (const RowRangeBounds& h : bounds.hole) {
    if (h.max_begin <= row0 && h.min_end >= row1) return TileClass::kEmpty;
    touched |= h.min_begin < row1 && h.max_end > row0;
  }
  const bool inside = bounds.visible.max_begin <= row0 && bounds.visible.min_end >= row1;
  return inside && !touched && !tail ? TileClass::kFull : TileClass::kUndecided;
}

// Classifies a tile by its columns. The result is exact.
PFM_HOST_DEVICE TileClass ClassifyByColumns(const Column* columns, int count, int32_t row0, int32_t row1, bool tail) {
  bool any = false;
  bool all = !tail;
  for (int c = 0; c < count; ++c) {
    const int64_t rows = columns[c].CountVisible(row0, row1);
    any |= rows > 0;
    all &= rows == row1 - row0;
    if (any && !all) return TileClass::kPartial;
  }
  if (!any) return TileClass::kEmpty;
  return all ? TileClass::kFull : TileClass::kPartial;
}

PFM_HOST_DEVICE TileClass Classify(const TileBounds& bounds, const Column* columns, int count, int32_t row0,
                                   int32_t row1, bool tail) {
  const TileClass by_bounds = ClassifyByBounds(bounds, row0, row1, tail);
  return by_bounds == TileClass::kUndecided ? ClassifyByColumns(columns, count, row0, row1, tail) : by_bounds;
}

}  // namespace pfm

#endif  // PFM_CORE_TILES_H_
