#include "common/lossless.h"

/* Ones of a byte: four copies of it, of which two bits each are left, are added up in two steps. */
static uint32_t count_ones(uint32_t byte) { return (byte * 0x08040201u >> 3 & 0x11111111u) * 0x11111111u >> 28; }

void nnb_mask_frequencies(unsigned chance, nnb_any16 *frequencies) {
  static const uint8_t bytes[9] = {1, 8, 28, 56, 70, 56, 28, 8, 1}; /* with so many ones */
  const unsigned rare = chance <= 128 ? chance : 256 - chance, often = 256 - rare;
  uint16_t of[9];
  int32_t left = 4096;
  for (unsigned k = 8; k > 0; k--) {
    uint64_t weight = 1;
    for (unsigned i = 0; i < 8; i++) weight *= i < k ? rare : often;
    const uint16_t rounded = (uint16_t)(((weight >> 51) + 1) >> 1);
    of[k] = rounded ? rounded : 1;
    left -= bytes[k] * of[k];
  }
  for (; left < of[1]; left += 8) of[1]--;
  of[0] = (uint16_t)left;
  const uint32_t flip = chance <= 128 ? 0 : 255;
  for (uint32_t byte = 0; byte < 256; byte++) frequencies[byte] = of[count_ones(byte ^ flip)];
}
