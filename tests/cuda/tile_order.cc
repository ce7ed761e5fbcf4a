// Orders of tiles by the kernels of mask preparation in the emulator, against csrc/core/order.h. Prints nothing if
// they agree. Arguments: number of queries and keys, seed.
#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

#include "core/order.h"
#include "cuda/common/prepare.h"
#include "emulator/emulator.h"

namespace {

using pfm::cuda::MaskTable;
using pfm::emulator::Buffer;

constexpr int kTileQ = 64, kTileK = 64;

// Rows from startend[key] on do not see a key: causal documents of random lengths, and everything in between.
std::vector<int32_t> RandomEnds(int64_t length, std::mt19937& random) {
  std::vector<int32_t> ends(length);
  for (int64_t key = 0; key < length; ++key) {
    const int64_t span = key / 1024 % 2 == 0 ? 40 + static_cast<int64_t>(random() % 200) : length;
    ends[key] = static_cast<int32_t>(std::min(length, key + 1 + span));
  }
  return ends;
}

int Compare(const char* what, const std::vector<int32_t>& expected, const int32_t* found) {
  for (size_t i = 0; i < expected.size(); ++i) {
    if (expected[i] == found[i]) continue;
    std::printf("%s %zu: expected %d, found %d\n", what, i, expected[i], found[i]);
    return 1;
  }
  return 0;
}

}  // namespace

int main(int, char** arguments) {
  const int64_t length = std::atoll(arguments[1]);
  std::mt19937 random(static_cast<unsigned>(std::atoi(arguments[2])));
  pfm_params params = {};
  params.batch = params.heads_q = params.heads_kv = params.heads_mask = 1;
  params.seqlen_q = params.seqlen_k = length;
  params.causal = 1;
  params.window_left = params.window_right = -1;
  params.startend_bounds = 1;
  Buffer<int32_t> ends("startend", RandomEnds(length, random));
  params.startend_row_indices = ends.data();

  MaskTable table = {};
  const auto take = [&](void* workspace) {
    pfm::cuda::Arena arena(workspace);
    table = pfm::cuda::TakeMaskTable(params, kTileQ, kTileK, &arena);
    pfm::cuda::TakeQueryOrder(&table, &arena);
    pfm::cuda::TakeKeyOrder(&table, &arena);
    return arena.used();
  };
  std::vector<uint8_t> room(take(nullptr) + pfm::cuda::Arena::kAlignment);
  auto* workspace = reinterpret_cast<void*>(
      pfm::RoundUp<uintptr_t>(reinterpret_cast<uintptr_t>(room.data()), pfm::cuda::Arena::kAlignment));
  pfm::emulator::Register(workspace, room.size() - pfm::cuda::Arena::kAlignment, "workspace", false);
  take(workspace);
  pfm::emulator::CurrentOptions().seed = random();
  const auto status = pfm::cuda::PrepareMask(params, table);
  if (!status.ok()) {
    std::puts(status.message);
    return 1;
  }

  std::vector<int32_t> counts(table.query_tiles + 1), live(table.key_tiles);
  int32_t largest_live = 0;
  for (int32_t tile = 0; tile < table.key_tiles; ++tile) {
    std::vector<int32_t> of_tile(table.query_tiles + 1);
    const auto at = [&](int which) { return table.bounds[which * table.key_tiles + tile]; };
    const pfm::RowRangeBounds none = {static_cast<int32_t>(length), static_cast<int32_t>(length), 0, 0};
    const pfm::TileBounds bounds = {{at(0), at(1), at(2), at(3)}, {none, none}};
    pfm::AddLiveQueryTiles(bounds, kTileQ, table.query_tiles, counts.data());
    pfm::AddLiveQueryTiles(bounds, kTileQ, table.query_tiles, of_tile.data());
    pfm::PrefixCounts(table.query_tiles, of_tile.data());
    for (int32_t q = 0; q < table.query_tiles; ++q) live[tile] += of_tile[q];
    largest_live = std::max(largest_live, live[tile]);
  }
  const int32_t largest = pfm::PrefixCounts(table.query_tiles, counts.data());
  counts.pop_back();
  std::vector<int32_t> order(table.query_tiles), key_order(table.key_tiles);
  pfm::LongestFirst(counts.data(), table.query_tiles, largest, order.data());
  pfm::LongestFirst(live.data(), table.key_tiles, largest_live, key_order.data());
  int wrong = Compare("live key tiles of query tile", counts, table.work);
  wrong += Compare("live query tiles of key tile", live, table.key_work);
  wrong += Compare("query tile at place", order, table.order);
  wrong += Compare("key tile at place", key_order, table.key_order);
  pfm::emulator::Unregister(workspace);
  return wrong;
}
