// The dropout stream: (seed, offset, head, row, column) alone decide whether a probability is dropped, not tiles,
// threads or the device. Forward and backward, CPU and CUDA agree bit for bit.
//
// Philox4x32-10 (Salmon et al., SC 2011) is called once per lane of a 16x16 block of the score matrix. The eight
// 16-bit words of a lane belong to the elements that the lane holds in a warp's two m16n8 accumulator fragments:
//   lane = (row % 8) * 4 + (col % 8) / 2        word = (col % 16) / 8 * 4 + (row % 16) / 8 * 2 + col % 2
// A probability is kept iff its word < round((1 - p) * 65536). Kept probabilities are scaled by 1 / (1 - p).
#ifndef PFM_CORE_DROPOUT_H_
#define PFM_CORE_DROPOUT_H_

#include <cstdint>

#include "host_device.h"

namespace pfm {

constexpr int kDropoutBlock = 16;
constexpr int kDropoutLanes = 32;

struct Philox4 {
  uint32_t word[4];
};

PFM_HOST_DEVICE Philox4 Philox4x32(Philox4 counter, uint32_t key0, uint32_t key1) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t product0 = static_cast<uint64_t>(0xD2511F53u) * counter.word[0];
    const uint64_t product1 = static_cast<uint64_t>(0xCD9E8D57u) * counter.word[2];
    counter = {{static_cast<uint32_t>(product1 >> 32) ^ counter.word[1] ^ key0, static_cast<uint32_t>(product1),
                static_cast<uint32_t>(product0 >> 32) ^ counter.word[3] ^ key1, static_cast<uint32_t>(product0)}};
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  return counter;
}

struct DropoutStream {
  uint64_t seed;
  uint64_t offset;
  uint32_t keep_below;           // round((1 - p) * 65536): 65536 keeps everything
  float keep_scale;              // 1 / (1 - p)
  uint32_t first_block_row = 0;  // of block (0, 0), where query and key are parts of longer sequences
  uint32_t first_block_col = 0;

  // Returns the 128 random bits of one lane of block (row / 16, col / 16). `head` is b * Hq + h.
  PFM_HOST_DEVICE Philox4 Lane(uint32_t head, uint32_t block_row, uint32_t block_col, uint32_t lane) const {
    const Philox4 counter = {{static_cast<uint32_t>(offset), head, first_block_row + block_row,
                              (first_block_col + block_col) | lane << 27}};
    return Philox4x32(counter, static_cast<uint32_t>(seed),
                      static_cast<uint32_t>(seed >> 32) ^ static_cast<uint32_t>(offset >> 32));
  }

  PFM_HOST_DEVICE bool KeepsWord(const Philox4& bits, int word) const {
    return (bits.word[word / 2] >> (word % 2 * 16) & 0xFFFFu) < keep_below;
  }

  // The definition for a single element.
  PFM_HOST_DEVICE bool Keeps(uint32_t head, int64_t row, int64_t col) const {
    const int r = static_cast<int>(row % kDropoutBlock);
    const int c = static_cast<int>(col % kDropoutBlock);
    const uint32_t lane = static_cast<uint32_t>(r % 8 * 4 + c % 8 / 2);
    const Philox4 bits =
        Lane(head, static_cast<uint32_t>(row / kDropoutBlock), static_cast<uint32_t>(col / kDropoutBlock), lane);
    return KeepsWord(bits, c / 8 * 4 + r / 8 * 2 + c % 2);
  }
};

// The stream for probability p in [0, 1). Rounding is half up; p = 0 keeps everything.
// `row` and `col` are the positions of the first row and column, multiples of kDropoutBlock.
PFM_HOST_DEVICE DropoutStream MakeDropout(float p, uint64_t seed, uint64_t offset, int32_t row = 0, int32_t col = 0) {
  const double keep = 1.0 - static_cast<double>(p);
  return {seed,
          offset,
          static_cast<uint32_t>(keep * 65536.0 + 0.5),
          static_cast<float>(1.0 / keep),
          static_cast<uint32_t>(row / kDropoutBlock),
          static_cast<uint32_t>(col / kDropoutBlock)};
}

}  // namespace pfm

#endif  // PFM_CORE_DROPOUT_H_
