// Work estimates and the longest-first order against a tile-by-tile count, over random masks of small sizes.
#include "core/order.h"

#include <cstdint>
#include <cstdio>
#include <random>
#include <vector>

#include "check.h"
#include "core/columns.h"
#include "core/tiles.h"

namespace pfm_test {
namespace {

constexpr int32_t kTileK = 4;

// Mask of random intervals, half of them shared by the keys of a tile.
std::vector<pfm::TileBounds> RandomBounds(std::mt19937* random, int32_t rows, int32_t keys) {
  const auto pick = [random](int32_t limit) { return static_cast<int32_t>((*random)() % (limit + 1u)); };
  const pfm::MaskRules rules = {rows, keys, keys - rows, -1, -1, 4, false};
  std::vector<pfm::TileBounds> bounds;
  for (int32_t key = 0; key < keys; key += kTileK) {
    pfm::Column columns[kTileK];
    int32_t values[4] = {};
    const bool alike = pick(1) == 0;
    const int count = pfm::Min(kTileK, keys - key);
    for (int c = 0; c < count; ++c) {
      if (c == 0 || !alike) {
        for (int32_t& value : values) value = pick(rows);
      }
      columns[c] = pfm::NormalForm(rules, key + c, values);
    }
    bounds.push_back(pfm::BoundsOf(columns, count));
  }
  return bounds;
}

// Number of key tiles that the bounds do not rule out for a whole query tile; a ragged last tile may count more.
int32_t ByCounting(const std::vector<pfm::TileBounds>& bounds, int32_t tile, int32_t tile_q) {
  int32_t live = 0;
  for (const pfm::TileBounds& b : bounds) {
    live += pfm::ClassifyByBounds(b, tile * tile_q, (tile + 1) * tile_q, false) != pfm::TileClass::kEmpty;
  }
  return live;
}

}  // namespace

int TestOrder() {
  Checks checks;
  std::mt19937 random(1);
  for (int round = 0; round < 20000; ++round) {
    const int32_t tile_q = 1 + static_cast<int32_t>(random() % 5);
    const int32_t rows = 1 + static_cast<int32_t>(random() % 40);
    const int32_t tiles = pfm::CeilDiv(rows, tile_q);
    const auto bounds = RandomBounds(&random, rows, 1 + static_cast<int32_t>(random() % 30));
    const auto describe = [&] { std::printf("round %d rows %d tile_q %d", round, rows, tile_q); };

    std::vector<int32_t> count(static_cast<size_t>(tiles) + 1, 0);
    for (const pfm::TileBounds& b : bounds) pfm::AddLiveQueryTiles(b, tile_q, tiles, count.data());
    const int32_t largest = pfm::PrefixCounts(tiles, count.data());
    int32_t expected_largest = 0;
    for (int32_t tile = 0; tile < tiles; ++tile) {
      const int32_t expected = ByCounting(bounds, tile, tile_q);
      expected_largest = pfm::Max(expected_largest, expected);
      checks.Expect(count[static_cast<size_t>(tile)] == expected, "live tiles", describe);
    }
    checks.Expect(largest == expected_largest, "largest count", describe);

    std::vector<int32_t> order(static_cast<size_t>(tiles), -1);
    pfm::LongestFirst(count.data(), tiles, largest, order.data());
    std::vector<bool> seen(static_cast<size_t>(tiles), false);
    for (size_t rank = 0; rank < order.size(); ++rank) {
      const int32_t tile = order[rank];
      const bool fresh = tile >= 0 && tile < tiles && !seen[static_cast<size_t>(tile)];
      checks.Expect(fresh, "a permutation", describe);
      if (!fresh) break;
      seen[static_cast<size_t>(tile)] = true;
      if (rank == 0) continue;
      // There are fewer counts than buckets, so the order is exact and stable.
      const int32_t before = order[rank - 1];
      const int32_t work = count[static_cast<size_t>(tile)], work_before = count[static_cast<size_t>(before)];
      checks.Expect(work_before > work || (work_before == work && before < tile), "longest first", describe);
    }
  }
  return checks.Report("order");
}

}  // namespace pfm_test
