// Conversion between float and the bits of an IEEE 754 binary16.
#ifndef PFM_CORE_FLOAT16_H_
#define PFM_CORE_FLOAT16_H_

#include <cstdint>
#include <cstring>

#include "host_device.h"

namespace pfm {

PFM_HOST_DEVICE float Float16ToFloat(uint16_t h) {
  const uint32_t sign = static_cast<uint32_t>(h & 0x8000) << 16;
  const uint32_t magnitude = h & 0x7fff;
  if (magnitude >= 0x7c00) {  // infinity and NaN
    const uint32_t bits = sign | 0x7f800000u | (magnitude & 0x3ff) << 13;
    float v;
    std::memcpy(&v, &bits, sizeof(v));
    return v;
  }
  // Shifted left by 13, the bits read as a float are 2^-112 times the value, subnormals included.
  const uint32_t bits = magnitude << 13;
  float v;
  std::memcpy(&v, &bits, sizeof(v));
  v *= 5.192296858534828e33f;  // 2^112
  return sign ? -v : v;
}

// Rounds to nearest, ties to even. Magnitudes of 65520 and more become infinity, NaN stays NaN.
PFM_HOST_DEVICE uint16_t FloatToFloat16(float v) {
  uint32_t bits;
  std::memcpy(&bits, &v, sizeof(bits));
  const uint16_t sign = static_cast<uint16_t>(bits >> 16 & 0x8000);
  bits &= 0x7fffffffu;
  if (bits > 0x7f800000u) return sign | 0x7e00;
  if (bits >= 0x477ff000u) return sign | 0x7c00;  // rounds to 65536 or more
  if (bits < 0x38800000u) {                       // subnormal: let the adder round at 2^-24
    float magnitude;
    std::memcpy(&magnitude, &bits, sizeof(magnitude));
    magnitude += 0.5f;
    std::memcpy(&bits, &magnitude, sizeof(bits));
    return static_cast<uint16_t>(sign | (bits - 0x3f000000u));
  }
  bits += 0xfff + (bits >> 13 & 1) - (112u << 23);
  return static_cast<uint16_t>(sign | bits >> 13);
}

}  // namespace pfm

#endif  // PFM_CORE_FLOAT16_H_
