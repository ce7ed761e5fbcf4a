// Tile shapes of the sm90 forward, one row per instantiation, with shared memory and registers checked at compile
// time.
#ifndef PFM_CUDA_SM90_FORWARD_CONFIG_H_
#define PFM_CUDA_SM90_FORWARD_CONFIG_H_

#include <cstdint>

namespace pfm::cuda::sm90 {

constexpr int kForwardShared = 227 * 1024;    // of one block, and so of a multiprocessor
constexpr int kForwardRegisters = 64 * 1024;  // the same

struct ForwardTile {
  int head_dim, head_dim_v;
  int tile_q, tile_k;
  int stages;        // of keys, and of values
  int query_stages;  // 2: the next queries load while this output is stored
  int producer_registers, consumer_registers;

  constexpr int consumers() const { return tile_q / 64; }  // warpgroups, 64 rows each
  constexpr int threads() const { return 128 * (1 + consumers()); }
  constexpr int query_bytes() const { return tile_q * head_dim * 2; }
  constexpr int stage_bytes() const { return tile_k * (head_dim + head_dim_v) * 2; }
  // An entry and one bit per pair of a partial tile, with rows padded by 8 words against bank conflicts.
  static constexpr int entries = 4;
  constexpr int entry_bytes() const { return 16 + 4 * (tile_q + 8) * 4; }
  static constexpr int exchange_bytes = 32;  // what the list-building warps tell each other
  constexpr int barrier_bytes() const { return 16 * (query_stages + 2 * stages + entries); }
  constexpr int shared_bytes() const {
    return 1024 + query_stages * query_bytes() + stages * stage_bytes() + entries * entry_bytes() + exchange_bytes +
           barrier_bytes();
  }
  // Registers of the block after the warpgroups have reallocated theirs, and at launch.
  constexpr int registers() const { return 128 * (producer_registers + consumers() * consumer_registers); }
  constexpr int launch_registers() const { return kForwardRegisters / threads() / 8 * 8 * threads(); }
  // Estimated peak of a consumer thread: output sums, the probabilities being multiplied, the next scores, and some
  // 24 for softmax rows, addresses and the rest.
  constexpr int live_registers() const { return head_dim_v / 2 + tile_k / 4 + tile_k / 2 + 24; }

  // Shared memory traffic per tile in bytes: wgmma operands (queries for every key tile, keys and values once per
  // warpgroup) and the incoming copies.
  constexpr int64_t shared_traffic() const { return query_bytes() + (consumers() + 1) * stage_bytes(); }
  constexpr int64_t pairs() const { return tile_q * tile_k; }
};

// Not measured yet: the reasons are counts of bytes, registers and clocks (tools/config_budget.py).
constexpr ForwardTile kForward[] = {
    // 64 output sums, 32 words of probabilities and 64 scores fill the registers of two warpgroups. Two query stages
    // fit; a third stage of keys and values would not.
    {128, 128, 128, 128, 2, 2, 56, 224},
    // Three warpgroups: exp2 takes as long as the products here, so two do softmax while one multiplies. 128 keys
    // would leave the producers 32 registers, too few. Tiles are short, so four are in flight.
    {64, 64, 192, 96, 4, 2, 56, 152},
    // Latent attention: as 128 with a longer dot product. Two stages of 128 keys and one of queries just fit shared
    // memory.
    {192, 128, 128, 128, 2, 1, 56, 224},
    // 128 output sums. Two stages of 80 keys would leave no shared memory for the tile stream.
    {256, 256, 128, 64, 2, 1, 56, 224},
};

constexpr int kForwardRows = sizeof(kForward) / sizeof(kForward[0]);

constexpr bool ForwardTableIsSound() {
  for (const ForwardTile& tile : kForward) {
    if (tile.head_dim % 64 != 0 || tile.head_dim_v % 64 != 0 || tile.head_dim_v > tile.head_dim) return false;
    if (tile.tile_q % 64 != 0 || tile.consumers() > 3) return false;
    if (tile.tile_k % 16 != 0 || tile.tile_k > 128) return false;  // a quarter of the keys fills a word of bits
    if (tile.shared_bytes() > kForwardShared || tile.registers() > tile.launch_registers()) return false;
    if (tile.live_registers() > tile.consumer_registers) return false;
  }
  return true;
}
static_assert(ForwardTableIsSound(), "every row fits shared memory and registers, and the output fits the query");

// Row of these head dims, or -1.
constexpr int ForwardRowFor(int64_t head_dim, int64_t head_dim_v) {
  for (int row = 0; row < kForwardRows; ++row) {
    if (kForward[row].head_dim == head_dim && kForward[row].head_dim_v == head_dim_v) return row;
  }
  return -1;
}

}  // namespace pfm::cuda::sm90

#endif  // PFM_CUDA_SM90_FORWARD_CONFIG_H_
