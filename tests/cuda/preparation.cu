// Mask preparation on its own, on a GPU or in the emulator: writes every array of the MaskTable of a mask.
//
//     preparation INPUT OUTPUT
//
// INPUT: pfm_params, tile_q and tile_k as int32, startend_row_indices. OUTPUT: `name count\n` and int32 values for
// each array.
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "cuda/common/prepare.h"
#include "emulator/conformance/device_array.h"

namespace {

using pfm::conformance::DeviceArray;
using pfm::conformance::Require;

// Copies a part of a DeviceArray to the host.
std::vector<int32_t> Download(const int32_t* from, int64_t count) {
  std::vector<int32_t> values(count);
#if defined(PFM_EMULATOR)
  std::memcpy(values.data(), from, count * sizeof(int32_t));
#else
  Require("download", cudaMemcpy(values.data(), from, count * sizeof(int32_t), cudaMemcpyDeviceToHost));
#endif
  return values;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  std::ifstream input(argv[1], std::ios::binary);
  const std::vector<char> bytes((std::istreambuf_iterator<char>(input)), std::istreambuf_iterator<char>());
  pfm_params params;
  int32_t tiles[2];
  if (bytes.size() < sizeof(params) + sizeof(tiles)) return 2;
  std::memcpy(&params, bytes.data(), sizeof(params));
  std::memcpy(tiles, bytes.data() + sizeof(params), sizeof(tiles));
  std::vector<int32_t> values((bytes.size() - sizeof(params) - sizeof(tiles)) / sizeof(int32_t));
  std::memcpy(values.data(), bytes.data() + sizeof(params) + sizeof(tiles), values.size() * sizeof(int32_t));
  DeviceArray<int32_t> startend("startend_row_indices", values);
  if (params.startend_bounds != 0) params.startend_row_indices = startend.data();

  const auto take = [&](void* workspace, pfm::cuda::MaskTable* table) {
    pfm::cuda::Arena arena(workspace);
    *table = pfm::cuda::TakeMaskTable(params, tiles[0], tiles[1], &arena);
    pfm::cuda::TakeQueryOrder(table, &arena);
    pfm::cuda::TakeKeyOrder(table, &arena);
    pfm::cuda::TakeKeyGroups(table, &arena);
    return arena.used();
  };
  pfm::cuda::MaskTable table;
  const size_t size = take(nullptr, &table);
  DeviceArray<char> workspace("workspace", size + pfm::cuda::Arena::kAlignment);
  char* const base = workspace.data();
  const size_t past = reinterpret_cast<uintptr_t>(base) % pfm::cuda::Arena::kAlignment;
  take(base + (past == 0 ? 0 : pfm::cuda::Arena::kAlignment - past), &table);
  Require("mask preparation", PrepareMask(params, table));
  pfm::conformance::Wait("mask preparation");

  std::ofstream output(argv[2], std::ios::binary);
  const auto write = [&](const char* name, const int32_t* array, int64_t count) {
    output << name << ' ' << count << '\n';
    const std::vector<int32_t> downloaded = Download(array, count);
    output.write(reinterpret_cast<const char*>(downloaded.data()), count * sizeof(int32_t));
  };
  write("columns", table.columns, table.masks * 2 * (1 + table.holes) * table.padded_keys);
  write("bounds", table.bounds, table.masks * 4 * (1 + table.holes) * table.key_tiles);
  write("groups", table.groups, table.masks * 2 * table.key_groups());
  write("work", table.work, table.masks * (table.query_tiles + 1));
  write("order", table.order, table.masks * table.query_tiles);
  write("key_work", table.key_work, table.masks * table.key_tiles);
  write("key_order", table.key_order, table.masks * table.key_tiles);
  return output ? 0 : 1;
}
