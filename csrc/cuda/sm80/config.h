// Tile shapes of the sm80 kernels, one row per instantiation, with shared memory checked at compile time.
#ifndef PFM_CUDA_SM80_CONFIG_H_
#define PFM_CUDA_SM80_CONFIG_H_

#include <cstdint>

#include "../common/limits.h"

namespace pfm::cuda::sm80 {

// Shared memory classes, the maximum per block: small on compute capability 8.6, 8.9 and 12.x, medium on 8.0 and 8.7.
// Other devices have more.
constexpr int kSharedSmall = kLeastSharedBytes;
constexpr int kSharedMedium = 163 * 1024;

// Rows in shared memory are padded to whole lines of 64 elements.
constexpr int row_bytes(int head_dim) { return (head_dim + 63) / 64 * 64 * kElementBytes; }

// Begins and ends of the visible range and of two holes for every key of a tile.
constexpr int column_bytes(int tile_k) { return 6 * tile_k * 4; }

// Addresses of keys and values, in shared memory because registers are scarce.
constexpr int kAddressBytes = 2 * 8;

// D and Dv are padded to head_dim and head_dim_v.
struct ForwardTile {
  int head_dim, head_dim_v;
  int tile_q, tile_k;
  int warps;         // each owns tile_q / warps rows
  int least_shared;  // class of the devices that the row is made for; larger ones take it too

  constexpr int threads() const { return 32 * warps; }
  constexpr int shared_bytes() const {
    return (tile_q + tile_k) * row_bytes(head_dim) + tile_k * row_bytes(head_dim_v) + column_bytes(tile_k) +
           kAddressBytes;
  }
};

// Two warps per scheduler, so that one computes while the other waits. As two blocks of four warps where they fit,
// with two 16-row blocks per warp: a warp reads the whole key and value tile from shared memory for its rows, which
// takes longer than the arithmetic of 16 rows. Otherwise as one block of eight warps.
constexpr ForwardTile kForward[] = {
    {64, 64, 128, 64, 4, kSharedSmall},     // scores and output take 64 registers each
    {96, 96, 128, 64, 4, kSharedMedium},    // 64 and 96
    {96, 96, 128, 32, 4, kSharedSmall},     // two blocks in 100 KiB
    {128, 128, 128, 64, 4, kSharedMedium},  // 64 and 128
    {128, 128, 128, 32, 4, kSharedSmall},   // two blocks in 100 KiB
    {192, 128, 128, 64, 8, kSharedSmall},   // latent attention: one 16-row block per warp
    {256, 256, 128, 64, 8, kSharedMedium},  // the output alone takes 128 registers
    {256, 256, 64, 64, 4, kSharedSmall},    // four warps: 128 queries do not fit
};

// For the work of the block (shared_block.h): a line, so that the next tile starts one.
constexpr int kBlockBytes = 128;

struct BackwardTile {
  int head_dim;  // of query, key and value
  int tile_q, tile_k;
  int warps;
  int column_split;  // warps that share 16 keys and split the columns of dkey and dvalue
  int stages;        // buffers for query and dout

  constexpr int threads() const { return 32 * warps; }
  constexpr int key_rows() const { return tile_k * column_split / warps; }
  // query and dout, lse and delta of their rows, and the columns of the keys in the mask of their head
  constexpr int stage_bytes() const {
    return 2 * tile_q * (row_bytes(head_dim) + kFloatBytes) + column_bytes(tile_k);
  }
  // key and value, the stages, the work of the block
  constexpr int input_bytes() const {
    return 2 * tile_k * row_bytes(head_dim) + stages * stage_bytes() + kBlockBytes;
  }
  // input_bytes, and dS if dquery is summed, which alone reads it from shared memory
  constexpr int shared_bytes(bool adds_dquery) const {
    return input_bytes() + (adds_dquery ? tile_q * tile_k * kElementBytes : 0);
  }
  // Whether the row adds to dquery: on every device of its shared-memory class, or on none.
  constexpr bool adds_dquery() const {
    return shared_bytes(true) <= (shared_bytes(false) <= kSharedSmall ? kSharedSmall : kSharedMedium);
  }
};

// Sixteen keys per warp: dkey and dvalue stay in registers, and so do P^T and dS^T, their left operands.
constexpr BackwardTile kBackward[] = {
    {64, 64, 128, 8, 1, 2},  {96, 64, 128, 8, 1, 2},  // medium class
    {96, 64, 64, 4, 1, 1},                            // small class
    {128, 64, 128, 8, 1, 2},                          // medium class
    {128, 64, 64, 4, 1, 1},                           // small class
    {256, 64, 64, 8, 2, 1},                           // medium class
    {256, 64, 32, 4, 2, 1},                           // small class; dquery in a separate pass
};

struct QueryGradientTile {
  int head_dim, head_dim_v;
  int tile_q, tile_k;
  int warps;

  constexpr int threads() const { return 32 * warps; }
  constexpr int shared_bytes() const {
    return (tile_q + tile_k) * (row_bytes(head_dim) + row_bytes(head_dim_v)) + column_bytes(tile_k);
  }
};

// dquery of a query tile, summed over its key tiles in ascending order, for head dims whose pass over key tiles lacks
// the shared memory.
constexpr QueryGradientTile kQueryGradient[] = {
    {192, 128, 64, 64, 4},
    {256, 256, 64, 32, 4},
};

constexpr int kForwardRows = sizeof(kForward) / sizeof(kForward[0]);
constexpr int kBackwardRows = sizeof(kBackward) / sizeof(kBackward[0]);
constexpr int kQueryGradientRows = sizeof(kQueryGradient) / sizeof(kQueryGradient[0]);

constexpr bool DividesBlockMask(int tile_q, int tile_k) {
  return 128 % tile_q == 0 && 128 % tile_k == 0 && tile_q >= kSmallestTile && tile_k >= kSmallestTile;
}

constexpr bool ForwardTableIsSound() {
  for (const ForwardTile& tile : kForward) {
    if (!DividesBlockMask(tile.tile_q, tile.tile_k) || tile.tile_q % (16 * tile.warps) != 0) return false;
    if (tile.shared_bytes() > tile.least_shared) return false;
  }
  return true;
}

// Every head dim needs a row for the small class, and one that adds dquery for the medium class.
constexpr bool BackwardTableIsSound() {
  for (const BackwardTile& tile : kBackward) {
    if (!DividesBlockMask(tile.tile_q, tile.tile_k) || tile.key_rows() != 16) return false;
    bool fits_small = false, adds_on_medium = false;
    for (const BackwardTile& other : kBackward) {
      if (other.head_dim != tile.head_dim) continue;
      fits_small |= other.shared_bytes(false) <= kSharedSmall;
      adds_on_medium |= other.adds_dquery();
    }
    if (!fits_small || !adds_on_medium) return false;
  }
  return true;
}

constexpr bool QueryGradientTableIsSound() {
  for (const QueryGradientTile& tile : kQueryGradient) {
    if (!DividesBlockMask(tile.tile_q, tile.tile_k) || tile.tile_q != 16 * tile.warps) return false;
    if (tile.shared_bytes() > kSharedSmall) return false;
  }
  return true;
}

static_assert(ForwardTableIsSound() && BackwardTableIsSound() && QueryGradientTableIsSound(),
              "tiles divide the blocks of block_mask, warps own whole 16-row blocks, everything fits");

// First row whose head dims suffice and whose class is at most the device's.
constexpr int ForwardRowFor(int64_t head_dim, int64_t head_dim_v, int shared_limit) {
  int row = 0;
  while (kForward[row].head_dim < head_dim || kForward[row].head_dim_v < head_dim_v ||
         kForward[row].least_shared > shared_limit) {
    ++row;
  }
  return row;
}

// First row whose head dims suffice.
template <class Tile, int kRows>
constexpr int RowFor(const Tile (&table)[kRows], int64_t head_dim, int64_t head_dim_v) {
  int row = 0;
  while (table[row].head_dim < head_dim || table[row].head_dim_v < head_dim_v) ++row;
  return row;
}

// First row whose head dim suffices and whose shared memory fits.
constexpr int BackwardRowFor(int64_t head_dim, int shared_limit) {
  int row = 0;
  while (kBackward[row].head_dim < head_dim || kBackward[row].shared_bytes(false) > shared_limit) ++row;
  return row;
}

}  // namespace pfm::cuda::sm80

#endif  // PFM_CUDA_SM80_CONFIG_H_
