#include "common/rans.h"

uint32_t nnb_rans_state_count(size_t count) {
  uint32_t states = 4;
  while (states < NNB_RANS_MAX_STATES && count / 512 >= states) states *= 2;
  return states;
}

/* The next row from `row` on whose frequency is above the width (heavy) or not; `rows` if there is none. */
static uint32_t next_row(const nnb_rans_row *table, uint32_t row, uint32_t rows, uint32_t width, int heavy) {
  while (row < rows && (table[row].frequency > width) != heavy) row++;
  return row;
}

/*
 * Heavy symbols, which have more slots than a bucket, fill up the buckets of the light ones in order of their numbers.
 * What is left of a heavy symbol when it fits its own bucket stays there, and the next heavy symbol fills that bucket
 * up too. A symbol's own slots have its lowest ranks; those elsewhere were taken from its upper end.
 */
void nnb_rans_build_rows(nnb_rans_row *rows, uint32_t bucket_bits) {
  const uint32_t count = 1u << bucket_bits;
  const uint32_t width = NNB_RANS_SLOTS >> bucket_bits;
  uint32_t light = next_row(rows, 0, count, width, 0);
  uint32_t heavy = next_row(rows, 0, count, width, 1);
  uint32_t left = heavy < count ? rows[heavy].frequency : 0;
  for (uint32_t i = 0; i < count; i++) {
    rows[i].split = (uint16_t)width;
    rows[i].alias = (uint8_t)i;
    rows[i].alias_rank = 0;
  }
  while (heavy < count) {
    uint32_t target = light;
    uint32_t own;
    if (left > width) {
      own = rows[light].frequency;
      light = next_row(rows, light + 1, count, width, 0);
    } else {
      target = heavy;
      own = left;
      heavy = next_row(rows, heavy + 1, count, width, 1);
      if (heavy == count) break; /* left is width, as is what the light symbols have that are left */
      left = rows[heavy].frequency;
    }
    if (own == width) continue;
    left -= width - own;
    rows[target].split = (uint16_t)own;
    rows[target].alias = (uint8_t)heavy;
    rows[target].alias_rank = (uint16_t)(left - own);
  }
}

int nnb_rans_map_is_good(const uint8_t *contexts, const uint8_t *context_map, uint32_t table_count) {
  if (contexts == NULL || context_map == NULL) return contexts == NULL && context_map == NULL;
  uint32_t largest = 0;
  for (int i = 0; i < 256; i++) largest = context_map[i] > largest ? context_map[i] : largest;
  return largest < table_count;
}
