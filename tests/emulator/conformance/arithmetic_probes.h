// Probes of arithmetic and of the conversions to and from 16 bits.
#ifndef PFM_EMULATOR_CONFORMANCE_ARITHMETIC_PROBES_H_
#define PFM_EMULATOR_CONFORMANCE_ARITHMETIC_PROBES_H_

#include <algorithm>
#include <limits>

#include "device_array.h"
#include "probe.h"
#include "warp_probes.h"

namespace pfm::conformance {

struct FloatArrays {
  const float* in;
  float* out;
};

enum class Function { kExp2, kLog2 };

template <Function kFunction>
PFM_KERNEL_BOUNDS(128, 1)
void Evaluate(PFM_KERNEL_ARGUMENT FloatArrays arrays) {
  const int64_t item = static_cast<int64_t>(ptx::BlockIndex()) * 128 + ptx::ThreadIndex();
  const float value = ptx::LoadGlobal(arrays.in + item);
  if constexpr (kFunction == Function::kExp2) ptx::StoreGlobal(arrays.out + item, ptx::Exp2(value));
  if constexpr (kFunction == Function::kLog2) ptx::StoreGlobal(arrays.out + item, ptx::Log2(value));
}

inline std::vector<float> Evaluated(const char* name, void (*kernel)(FloatArrays), std::vector<float> values) {
  const size_t size = values.size();
  values.resize((size + 127) / 128 * 128, 1.0f);
  DeviceArray<float> in("in", values), out("out", values.size());
  Run(name, kernel, static_cast<int64_t>(values.size() / 128), 128, 0, {in.data(), out.data()});
  std::vector<float> results = out.Read();
  results.resize(size);
  return results;
}

template <Function kFunction>
void ProbeFunction(Recorder& recorder, const char* name, const std::vector<float>& values, double (*expected)(double),
                   double absolute, const std::vector<float>& special, const std::vector<float>& special_results) {
  std::vector<double> results;
  std::vector<float> allowed;
  for (const float value : values) {
    results.push_back(expected(value));
    allowed.push_back(static_cast<float>(absolute + 0x1p-21 * std::fabs(results.back())));
  }
  recorder.Near(name, Evaluated(name, Evaluate<kFunction>, values), results, allowed);
  std::vector<uint32_t> bits, expected_bits;
  for (const float value : Evaluated(name, Evaluate<kFunction>, special)) bits.push_back(BitCast<uint32_t>(value));
  for (const float value : special_results) expected_bits.push_back(BitCast<uint32_t>(value));
  recorder.Exact(std::string(name) + ".special", bits, expected_bits);
}

// The PTX manual bounds the error of ex2.approx by 2^-22 relative, and of lg2.approx by 2^-22 absolute near 1 and
// relative elsewhere. Emulated values are correctly rounded or next to it.
inline void ProbeFunctions(Recorder& recorder) {
  Random random(31);
  const float infinity = std::numeric_limits<float>::infinity();
  const float subnormal = 0x1p-130f;
  std::vector<float> exponents, positives;
  for (int i = 0; i < 1000; ++i) {
    exponents.push_back(125.0f * random.Unit());
    positives.push_back(std::ldexp(1.5f + 0.5f * random.Unit(), random.Below(240) - 120));
  }
  exponents.insert(exponents.end(), {3.0f, -1.0f});
  positives.insert(positives.end(), {1.0f, 4.0f, 8.0f});
  // Special values listed in the manual.
  ProbeFunction<Function::kExp2>(recorder, "Exp2", exponents, [](double x) { return std::exp2(x); }, 0.0,
                                 {-infinity, infinity, 0.0f, -0.0f, subnormal, -150.0f, -130.0f, 128.0f},
                                 {0.0f, infinity, 1.0f, 1.0f, 1.0f, 0.0f, 0.0f, infinity});
  ProbeFunction<Function::kLog2>(recorder, "Log2", positives, [](double x) { return std::log2(x); }, 0x1p-21,
                                 {0.0f, -0.0f, subnormal, infinity}, {-infinity, -infinity, -infinity, infinity});
}

// ---- The larger of two numbers

PFM_KERNEL_BOUNDS(128, 1) void LargerOfPairs(PFM_KERNEL_ARGUMENT FloatArrays arrays) {
  const int item = ptx::ThreadIndex();
  ptx::StoreGlobal(arrays.out + item,
                   ptx::Maximum(ptx::LoadGlobal(arrays.in + 2 * item), ptx::LoadGlobal(arrays.in + 2 * item + 1)));
}

inline void ProbeMaximum(Recorder& recorder) {
  Random random(33);
  std::vector<float> values(256);
  for (float& value : values) value = random.Unit();
  const float infinity = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> special = {infinity, 1.0f, -infinity, 1.0f, 1.0f, nan, nan, -1.0f, -infinity, nan};
  std::copy(special.begin(), special.end(), values.begin());
  DeviceArray<float> in("in", values), out("out", 128);
  Run("Maximum", LargerOfPairs, 1, 128, 0, {in.data(), out.data()});
  std::vector<uint32_t> actual, expected;
  for (const float value : out.Read()) actual.push_back(BitCast<uint32_t>(value));
  for (size_t i = 0; i < 256; i += 2) {
    const bool first = std::isnan(values[i + 1]) || values[i] > values[i + 1];
    expected.push_back(BitCast<uint32_t>(first ? values[i] : values[i + 1]));
  }
  recorder.Exact("Maximum", actual, expected);
}

// ---- Conversions

struct PackArrays {
  const float* in;  // pairs
  uint32_t* out;
};

template <class T>
PFM_KERNEL_BOUNDS(128, 1)
void PackPairs(PFM_KERNEL_ARGUMENT PackArrays arrays) {
  const int64_t item = static_cast<int64_t>(ptx::BlockIndex()) * 128 + ptx::ThreadIndex();
  ptx::StoreGlobal(arrays.out + item,
                   ptx::Pack<T>(ptx::LoadGlobal(arrays.in + 2 * item), ptx::LoadGlobal(arrays.in + 2 * item + 1)));
}

struct UnpackArrays {
  const uint32_t* in;
  float* out;  // pairs
};

template <class T>
PFM_KERNEL_BOUNDS(128, 1)
void UnpackWords(PFM_KERNEL_ARGUMENT UnpackArrays arrays) {
  const int64_t item = static_cast<int64_t>(ptx::BlockIndex()) * 128 + ptx::ThreadIndex();
  float low, high;
  ptx::Unpack<T>(ptx::LoadGlobal(arrays.in + item), &low, &high);
  ptx::StoreGlobal(arrays.out + 2 * item, low);
  ptx::StoreGlobal(arrays.out + 2 * item + 1, high);
}

// Rounded to nearest, ties to even, by the arithmetic of doubles.
inline uint16_t Rounded(float value, int mantissa_bits) {
  if (std::isnan(value)) return 0x7fff;
  const int exponent_bits = 15 - mantissa_bits;
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const uint16_t sign = std::signbit(value) ? 0x8000 : 0;
  const uint16_t infinity = static_cast<uint16_t>(sign | ((1 << exponent_bits) - 1) << mantissa_bits);
  const double magnitude = std::fabs(static_cast<double>(value));
  if (std::isinf(magnitude)) return infinity;
  int exponent = magnitude == 0.0 ? 1 - bias : std::max(std::ilogb(magnitude), 1 - bias);
  double steps = std::nearbyint(std::ldexp(magnitude, mantissa_bits - exponent));
  if (steps == std::ldexp(1.0, mantissa_bits + 1)) {
    steps /= 2;
    ++exponent;
  }
  if (exponent > bias) return infinity;
  const int mantissa = static_cast<int>(steps);
  const int leading = 1 << mantissa_bits;
  return static_cast<uint16_t>(
      sign | (mantissa < leading ? mantissa : (exponent + bias) << mantissa_bits | (mantissa - leading)));
}

template <class T>
void ProbeConversion(Recorder& recorder, const std::string& type, int mantissa_bits) {
  Random random(32);
  std::vector<float> values;
  for (int i = 0; i < 20000; ++i) values.push_back(BitCast<float>(random.Word()));
  // Ties and their neighbours, for normal, subnormal and the largest numbers.
  for (int i = 0; i < 3000; ++i) {
    const uint16_t bits = static_cast<uint16_t>(random.Below(1 << 15));
    const double tie = 0.5 * (ValueOf(bits, mantissa_bits) + ValueOf(static_cast<uint16_t>(bits + 1), mantissa_bits));
    if (!std::isfinite(tie)) continue;
    const uint32_t word = BitCast<uint32_t>(static_cast<float>(tie));
    for (const uint32_t near : {word - 1, word, word + 1}) values.push_back(BitCast<float>(near));
  }
  for (const float value : {0.0f, 65504.0f, 65519.99f, 65520.0f, 0x1p-24f, 0x1p-25f, 3.4028235e38f, 0x1p-133f,
                            0x1p-134f, std::numeric_limits<float>::infinity()}) {
    values.push_back(value);
    values.push_back(-value);
  }
  values.resize((values.size() + 255) / 256 * 256, 1.0f);
  DeviceArray<float> in("in", values);
  DeviceArray<uint32_t> out("out", values.size() / 2);
  Run("Pack", PackPairs<T>, static_cast<int64_t>(values.size() / 256), 128, 0, {in.data(), out.data()});
  std::vector<uint32_t> expected;
  for (size_t i = 0; i < values.size(); i += 2) {
    expected.push_back(Rounded(values[i], mantissa_bits) |
                       static_cast<uint32_t>(Rounded(values[i + 1], mantissa_bits)) << 16);
  }
  recorder.Exact("Pack." + type, out.Read(), expected);

  // Every 16-bit number; the payload of a NaN is unspecified.
  std::vector<uint32_t> words;
  for (uint32_t bits = 0; bits < 1 << 16; bits += 2) {
    const bool nan = std::isnan(ValueOf(static_cast<uint16_t>(bits), mantissa_bits)) ||
                     std::isnan(ValueOf(static_cast<uint16_t>(bits + 1), mantissa_bits));
    words.push_back(nan ? 0 : bits | (bits + 1) << 16);
  }
  DeviceArray<uint32_t> packed("in", words);
  DeviceArray<float> floats("out", 2 * words.size());
  Run("Unpack", UnpackWords<T>, static_cast<int64_t>(words.size() / 128), 128, 0, {packed.data(), floats.data()});
  std::vector<uint32_t> actual;
  for (const float value : floats.Read()) actual.push_back(BitCast<uint32_t>(value));
  expected.clear();
  for (const uint32_t word : words) {
    for (const uint16_t half : {static_cast<uint16_t>(word), static_cast<uint16_t>(word >> 16)}) {
      expected.push_back(BitCast<uint32_t>(static_cast<float>(ValueOf(half, mantissa_bits))));
    }
  }
  recorder.Exact("Unpack." + type, actual, expected);
}

inline void ProbeConversions(Recorder& recorder) {
  ProbeConversion<ptx::Float16>(recorder, "float16", 10);
  ProbeConversion<ptx::BFloat16>(recorder, "bfloat16", 7);
}

}  // namespace pfm::conformance

#endif  // PFM_EMULATOR_CONFORMANCE_ARITHMETIC_PROBES_H_
