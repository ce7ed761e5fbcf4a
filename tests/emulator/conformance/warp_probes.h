// Probes of warp collectives.
#ifndef PFM_EMULATOR_CONFORMANCE_WARP_PROBES_H_
#define PFM_EMULATOR_CONFORMANCE_WARP_PROBES_H_

#include <algorithm>

#include "device_array.h"
#include "memory_probes.h"
#include "probe.h"

namespace pfm::conformance {

// ---- Shuffles, votes, reductions, counts of bits

struct LaneArrays {
  const uint32_t* value;
  const int32_t* lane;
  uint32_t* out;  // [9][32]
};

PFM_KERNEL_BOUNDS(32, 1) void Lanes(PFM_KERNEL_ARGUMENT LaneArrays arrays) {
  const int lane = ptx::LaneIndex();
  const uint32_t value = ptx::LoadGlobal(arrays.value + lane);
  uint32_t* out = arrays.out + lane;
  ptx::StoreGlobal(out, ptx::Shuffle(value, ptx::LoadGlobal(arrays.lane + lane)));
  const float half = ptx::Shuffle(static_cast<float>(lane) * 0.5f, 31 - lane);
  ptx::StoreGlobal(out + 32, static_cast<uint32_t>(half * 2.0f));
  ptx::StoreGlobal(out + 64, ptx::ShuffleXor(value, 1));
  ptx::StoreGlobal(out + 96, ptx::ShuffleXor(value, 22));
  ptx::StoreGlobal(out + 128, ptx::Ballot((value & 1) != 0));
  ptx::StoreGlobal(out + 160, static_cast<uint32_t>(ptx::ReduceMin(static_cast<int32_t>(value))));
  ptx::StoreGlobal(out + 192, static_cast<uint32_t>(ptx::ReduceMax(static_cast<int32_t>(value))));
  ptx::StoreGlobal(out + 224, static_cast<uint32_t>(ptx::LowestBit(value | 1u << 31)));
  ptx::StoreGlobal(out + 256, static_cast<uint32_t>(ptx::PopulationCount(value)));
}

inline void ProbeLanes(Recorder& recorder) {
  Random random(21);
  const std::vector<uint32_t> values = random.Words(32);
  std::vector<int32_t> lanes(32);
  for (int32_t& lane : lanes) lane = random.Below(32);
  DeviceArray<uint32_t> value("value", values), out("out", 288);
  DeviceArray<int32_t> lane("lane", lanes);
  Run("Lanes", Lanes, 1, 32, 0, {value.data(), lane.data(), out.data()});
  uint32_t ballot = 0;
  int32_t least = INT32_MAX, largest = INT32_MIN;
  for (int l = 0; l < 32; ++l) {
    ballot |= (values[l] & 1) << l;
    least = std::min(least, static_cast<int32_t>(values[l]));
    largest = std::max(largest, static_cast<int32_t>(values[l]));
  }
  const auto lowest = [](uint32_t bits) {
    uint32_t index = 0;
    while ((bits >> index & 1) == 0) ++index;
    return index;
  };
  const auto count = [](uint32_t bits) {
    uint32_t ones = 0;
    for (; bits != 0; bits >>= 1) ones += bits & 1;
    return ones;
  };
  std::vector<std::vector<uint32_t>> expected(9, std::vector<uint32_t>(32));
  for (uint32_t l = 0; l < 32; ++l) {
    expected[0][l] = values[lanes[l]];
    expected[1][l] = 31 - l;
    expected[2][l] = values[l ^ 1];
    expected[3][l] = values[l ^ 22];
    expected[4][l] = ballot;
    expected[5][l] = static_cast<uint32_t>(least);
    expected[6][l] = static_cast<uint32_t>(largest);
    expected[7][l] = lowest(values[l] | 1u << 31);
    expected[8][l] = count(values[l]);
  }
  const char* const names[] = {"Shuffle.uint32", "Shuffle.float", "ShuffleXor.1", "ShuffleXor.22",  "Ballot",
                               "ReduceMin",      "ReduceMax",     "LowestBit",    "PopulationCount"};
  const std::vector<uint32_t> all = out.Read();
  for (int i = 0; i < 9; ++i) {
    recorder.Exact(names[i], std::vector<uint32_t>(all.begin() + 32 * i, all.begin() + 32 * (i + 1)), expected[i]);
  }
}

// ---- ldmatrix: four 8x8 matrices, rows in a random order

PFM_KERNEL_BOUNDS(32, 1) void Matrices(PFM_KERNEL_ARGUMENT LaneArrays arrays) {
  const int lane = ptx::LaneIndex();
  const ptx::SharedAddress rows = ptx::DynamicShared();
  const ptx::Vector16 row = ptx::LoadGlobal(reinterpret_cast<const ptx::Vector16*>(arrays.value) + lane);
  const ptx::SharedAddress address = rows + 16 * ptx::LoadGlobal(arrays.lane + lane);
  ptx::StoreShared(address, row);
  ptx::SyncWarp();
  uint32_t fragment[4];
  ptx::LoadMatrices(fragment, address);
  uint32_t* out = arrays.out + 4 * lane;
  for (int m = 0; m < 4; ++m) ptx::StoreGlobal(out + m, fragment[m]);
  ptx::LoadMatricesTransposed(fragment, address);
  for (int m = 0; m < 4; ++m) ptx::StoreGlobal(out + 128 + m, fragment[m]);
}

inline void ProbeMatrices(Recorder& recorder) {
  Random random(22);
  const std::vector<uint32_t> words = random.Words(32 * 4);
  // Rows of one matrix stay in one line of shared memory, which avoids bank conflicts.
  std::vector<int32_t> places(32);
  for (int lane = 0; lane < 32; ++lane) places[lane] = (lane / 8 * 3 + 1) % 4 * 8 + (lane * 5 + lane / 8) % 8;
  DeviceArray<uint32_t> value("value", words), out("out", 256);
  DeviceArray<int32_t> lane("lane", places);
  Run("Matrices", Matrices, 1, 32, 512, {value.data(), lane.data(), out.data()});
  const auto element = [&](int matrix, int row, int column) {
    return words[4 * (8 * matrix + row) + column / 2] >> column % 2 * 16 & 0xffff;
  };
  std::vector<uint32_t> expected[2];
  for (int l = 0; l < 32; ++l) {
    for (int m = 0; m < 4; ++m) {
      const int row = l / 4, column = l % 4 * 2;
      expected[0].push_back(element(m, row, column) | element(m, row, column + 1) << 16);
      expected[1].push_back(element(m, column, row) | element(m, column + 1, row) << 16);
    }
  }
  const std::vector<uint32_t> all = out.Read();
  recorder.Exact("LoadMatrices", std::vector<uint32_t>(all.begin(), all.begin() + 128), expected[0]);
  recorder.Exact("LoadMatricesTransposed", std::vector<uint32_t>(all.begin() + 128, all.end()), expected[1]);
}

// ---- mma: D = C + A B from plain row-major matrices

struct ProductArrays {
  const uint16_t* a;  // [16][16]
  const uint16_t* b;  // [16][8]
  const float* c;     // [16][8]
  float* d;
};

template <class T>
PFM_KERNEL_BOUNDS(32, 1)
void Product(PFM_KERNEL_ARGUMENT ProductArrays arrays) {
  const int group = ptx::LaneIndex() / 4, quad = ptx::LaneIndex() % 4 * 2;
  const int64_t block = ptx::BlockIndex();
  const uint16_t* a = arrays.a + 256 * block;
  const uint16_t* b = arrays.b + 128 * block;
  const auto pair = [](uint16_t low, uint16_t high) { return low | static_cast<uint32_t>(high) << 16; };
  uint32_t left[4], right[2];
  for (int i = 0; i < 4; ++i) {
    const uint16_t* at = a + 16 * (group + i % 2 * 8) + quad + i / 2 * 8;
    left[i] = pair(ptx::LoadGlobal(at), ptx::LoadGlobal(at + 1));
  }
  for (int i = 0; i < 2; ++i) {
    const uint16_t* at = b + 8 * (quad + 8 * i) + group;
    right[i] = pair(ptx::LoadGlobal(at), ptx::LoadGlobal(at + 8));
  }
  float sums[4];
  for (int i = 0; i < 4; ++i) {
    sums[i] = ptx::LoadGlobal(arrays.c + 128 * block + 8 * (group + i / 2 * 8) + quad + i % 2);
  }
  ptx::Mma16x8x16<T>(sums, left, right[0], right[1]);
  for (int i = 0; i < 4; ++i) {
    ptx::StoreGlobal(arrays.d + 128 * block + 8 * (group + i / 2 * 8) + quad + i % 2, sums[i]);
  }
}

// Value of a 16-bit float with this many mantissa bits.
inline double ValueOf(uint16_t bits, int mantissa_bits) {
  const int exponent_bits = 15 - mantissa_bits;
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const int exponent = bits >> mantissa_bits & ((1 << exponent_bits) - 1);
  const double fraction = bits & ((1 << mantissa_bits) - 1);
  const double sign = bits >> 15 != 0 ? -1.0 : 1.0;
  if (exponent == (1 << exponent_bits) - 1) return fraction == 0 ? sign * HUGE_VAL : std::nan("");
  if (exponent == 0) return sign * std::ldexp(fraction, 1 - bias - mantissa_bits);
  return sign * std::ldexp(fraction + (1 << mantissa_bits), exponent - bias - mantissa_bits);
}

constexpr int kProducts = 24;

// The hardware adds the 16 exact products and C in an unspecified order, truncated to about 24 bits below the largest
// term; the emulator rounds after every addition. Either error is below 17 * 2^-23 of the sum of the magnitudes.
constexpr double kProductTolerance = 0x1p-18;

template <class T>
void ProbeProduct(Recorder& recorder, const char* name, int mantissa_bits, bool exact) {
  Random random(23);
  std::vector<uint16_t> a(256 * kProducts), b(128 * kProducts);
  std::vector<float> c(128 * kProducts);
  const int exponent_bits = 15 - mantissa_bits;
  const int one = ((1 << (exponent_bits - 1)) - 1) << mantissa_bits;
  // Exact: integers up to 15, whose sums float32 holds, and float16 would not. Otherwise any fraction and sign with
  // exponents around 1, zeros, and subnormal numbers.
  const auto element = [&]() -> uint16_t {
    const uint16_t sign = static_cast<uint16_t>(random.Below(2) << 15);
    if (exact) {
      const int integer = random.Below(16);
      if (integer == 0) return sign;
      int exponent = 3;
      while (integer >> exponent == 0) --exponent;
      const int fraction = (integer << (mantissa_bits - exponent)) & ((1 << mantissa_bits) - 1);
      return static_cast<uint16_t>(sign | (one + (exponent << mantissa_bits)) | fraction);
    }
    const uint16_t fraction = static_cast<uint16_t>(random.Below(1 << mantissa_bits));
    const int kind = random.Below(20);
    if (kind == 0) return sign;
    if (kind == 1) return static_cast<uint16_t>(sign | fraction);
    return static_cast<uint16_t>(sign | (one + ((random.Below(9) - 4) * (1 << mantissa_bits))) | fraction);
  };
  for (uint16_t& value : a) value = element();
  for (uint16_t& value : b) value = element();
  for (float& value : c) value = exact ? static_cast<float>(random.Below(1 << 22)) : 16.0f * random.Unit();
  DeviceArray<uint16_t> left("a", a), right("b", b);
  DeviceArray<float> start("c", c), out("d", c.size());
  Run(name, Product<T>, kProducts, 32, 0, {left.data(), right.data(), start.data(), out.data()});
  std::vector<double> expected;
  std::vector<float> allowed;
  for (int p = 0; p < kProducts; ++p) {
    for (int m = 0; m < 16; ++m) {
      for (int n = 0; n < 8; ++n) {
        double sum = c[128 * p + 8 * m + n], magnitude = std::fabs(sum);
        for (int k = 0; k < 16; ++k) {
          const double product =
              ValueOf(a[256 * p + 16 * m + k], mantissa_bits) * ValueOf(b[128 * p + 8 * k + n], mantissa_bits);
          sum += product;
          magnitude += std::fabs(product);
        }
        expected.push_back(sum);
        allowed.push_back(exact ? 0.0f : static_cast<float>(magnitude * kProductTolerance));
      }
    }
  }
  recorder.Near(name, out.Read(), expected, allowed);
}

inline void ProbeProducts(Recorder& recorder) {
  ProbeProduct<ptx::Float16>(recorder, "Mma16x8x16.float16.integers", 10, true);
  ProbeProduct<ptx::BFloat16>(recorder, "Mma16x8x16.bfloat16.integers", 7, true);
  ProbeProduct<ptx::Float16>(recorder, "Mma16x8x16.float16", 10, false);
  ProbeProduct<ptx::BFloat16>(recorder, "Mma16x8x16.bfloat16", 7, false);
}

}  // namespace pfm::conformance

#endif  // PFM_EMULATOR_CONFORMANCE_WARP_PROBES_H_
