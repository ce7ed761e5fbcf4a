// Tile classes against brute force, for every set of up to three columns at small sizes.
#include "core/tiles.h"

#include <cstdint>
#include <cstdio>
#include <random>
#include <vector>

#include "check.h"

namespace pfm_test {
namespace {

using pfm::Column;
using pfm::TileClass;

// Every column of `rows` rows, as bits: every set of rows with at most three runs.
struct KnownColumn {
  uint32_t rows_seen;
  Column column;
};

Column ColumnOf(uint32_t seen, int32_t rows, bool* exists) {
  const pfm::RowRange absent = {rows, 0};
  Column column = {absent, {absent, absent}};
  int holes = 0;
  *exists = true;
  int32_t gap_begin = -1;
  for (int32_t row = 0; row < rows; ++row) {
    if ((seen >> row & 1u) == 0) continue;
    if (column.visible.end == 0) {
      column.visible.begin = row;
    } else if (gap_begin < row) {
      if (holes == pfm::kMaxHoles) {
        *exists = false;
        return column;
      }
      column.hole[holes++] = {gap_begin, row};
    }
    column.visible.end = row + 1;
    gap_begin = row + 1;
  }
  return column;
}

std::vector<KnownColumn> AllColumns(int32_t rows) {
  std::vector<KnownColumn> all;
  for (uint32_t seen = 0; seen < 1u << rows; ++seen) {
    bool exists = false;
    const Column column = ColumnOf(seen, rows, &exists);
    if (exists) all.push_back({seen, column});
  }
  return all;
}

TileClass ByCounting(const std::vector<const KnownColumn*>& tile, int32_t r0, int32_t r1, bool tail) {
  bool any = false;
  bool all = !tail;
  for (const KnownColumn* known : tile) {
    for (int32_t row = r0; row < r1; ++row) {
      const bool sees = known->rows_seen >> row & 1u;
      any |= sees;
      all &= sees;
    }
  }
  return !any ? TileClass::kEmpty : all ? TileClass::kFull : TileClass::kPartial;
}

void CheckTile(Checks* checks, const std::vector<const KnownColumn*>& tile, int32_t rows) {
  std::vector<Column> columns;
  bool all_same = true;
  for (const KnownColumn* known : tile) {
    columns.push_back(known->column);
    all_same &= known->rows_seen == tile[0]->rows_seen;
  }
  const int count = static_cast<int>(columns.size());
  const pfm::TileBounds bounds = pfm::BoundsOf(columns.data(), count);
  for (int32_t r0 = 0; r0 < rows; ++r0) {
    for (int32_t r1 = r0 + 1; r1 <= rows; ++r1) {
      for (const bool tail : {false, true}) {
        const TileClass expected = ByCounting(tile, r0, r1, tail);
        const TileClass by_bounds = pfm::ClassifyByBounds(bounds, r0, r1, tail);
        const auto describe = [&] {
          std::printf("rows [%d,%d) of %d tail=%d expected %d by_bounds %d columns", r0, r1, rows, tail,
                      static_cast<int>(expected), static_cast<int>(by_bounds));
          for (const KnownColumn* known : tile) std::printf(" %x", known->rows_seen);
        };
        checks->Expect(pfm::ClassifyByColumns(columns.data(), count, r0, r1, tail) == expected, "ClassifyByColumns",
                       describe);
        checks->Expect(pfm::Classify(bounds, columns.data(), count, r0, r1, tail) == expected, "Classify", describe);
        checks->Expect(by_bounds == expected || by_bounds == TileClass::kUndecided, "bounds never lie", describe);
        checks->Expect(by_bounds != TileClass::kPartial, "bounds cannot prove partial", describe);
        if (all_same && expected != TileClass::kPartial) {
          checks->Expect(by_bounds == expected, "bounds decide a tile of equal columns", describe);
        }
      }
    }
  }
}

void CheckColumnOfItself(Checks* checks) {
  for (const KnownColumn& known : AllColumns(6)) {
    for (int32_t row = 0; row < 6; ++row) {
      checks->Expect(known.column.Sees(row) == ((known.rows_seen >> row & 1u) != 0), "this test's own columns",
                     [&] { std::printf("%x row %d", known.rows_seen, row); });
    }
  }
}

void CheckExhaustively(Checks* checks) {
  const std::vector<KnownColumn> five = AllColumns(5);
  for (const KnownColumn& a : five) {
    CheckTile(checks, {&a}, 5);
    for (const KnownColumn& b : five) {
      for (const KnownColumn& c : five) CheckTile(checks, {&a, &b, &c}, 5);
    }
  }
  const std::vector<KnownColumn> six = AllColumns(6);
  for (const KnownColumn& a : six) {
    for (const KnownColumn& b : six) CheckTile(checks, {&a, &b}, 6);
  }
}

void CheckLargeTilesRandomly(Checks* checks) {
  std::mt19937 random(7);
  const std::vector<KnownColumn> columns = AllColumns(12);
  for (int round = 0; round < 3000; ++round) {
    // Use few different columns per tile, or else every tile is partial.
    const KnownColumn* palette[3];
    for (const KnownColumn*& entry : palette) entry = &columns[random() % columns.size()];
    std::vector<const KnownColumn*> tile(1 + random() % 40);
    for (const KnownColumn*& entry : tile) entry = palette[random() % 3];
    CheckTile(checks, tile, 12);
  }
}

}  // namespace

int TestTiles() {
  Checks checks;
  CheckColumnOfItself(&checks);
  CheckExhaustively(&checks);
  CheckLargeTilesRandomly(&checks);
  return checks.Report("tiles");
}

}  // namespace pfm_test
