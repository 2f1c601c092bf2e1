/* Start, position and end of an arithmetic code string (nnc-entropy sections 1, 2.1 and 7.3). */
#include "dec/engine.h"

static nnb_status start(nnb_cabac *cabac, const uint8_t *payload, size_t size) {
  cabac->data = payload;
  cabac->size = size;
  cabac->next = 0;
  cabac->window = 0;
  cabac->spare = -9;
  return size <= SIZE_MAX / 16 ? NNB_OK : NNB_LIMIT; /* bit counts must not overflow */
}

nnb_status nnb_cabac_open(nnb_cabac *cabac, const uint8_t *payload, size_t size) {
  const nnb_status status = start(cabac, payload, size);
  if (status != NNB_OK) return status;
  cabac->range = NNB_SCALED(510);
  nnb_refill(cabac);
  if (nnb_cabac_overrun(cabac)) return NNB_TRUNCATED;
  /* V < R always holds in a code string that an encoder made. */
  return cabac->window < cabac->range ? NNB_OK : NNB_CABAC_END;
}

nnb_status nnb_cabac_enter(nnb_cabac *cabac, const uint8_t *payload, size_t size, uint64_t bit_position,
                           uint32_t cabac_offset) {
  const nnb_status status = start(cabac, payload, size);
  if (status != NNB_OK) return status;
  if (cabac_offset >= 256) return NNB_ENTRY_POINT;
  if (bit_position > 8 * (uint64_t)size || bit_position + 9 > 8 * (uint64_t)size) return NNB_ENTRY_POINT;
  cabac->range = NNB_SCALED(256);
  /* Read the nine bits before the position as if they were V, then put the real V in their place. */
  const uint32_t shift = (uint32_t)(bit_position & 7);
  cabac->next = (size_t)(bit_position >> 3);
  nnb_refill(cabac);
  cabac->window <<= shift;
  cabac->spare -= (int32_t)shift;
  if (cabac->spare < 0) nnb_refill(cabac);
  const nnb_window below = ((nnb_window)1 << NNB_V_SHIFT) - 1;
  cabac->window = (cabac->window & below) | (nnb_window)cabac_offset << NNB_V_SHIFT;
  return NNB_OK;
}

uint64_t nnb_cabac_position(const nnb_cabac *cabac) { return nnb_bits_read(cabac) - 9; }

nnb_status nnb_cabac_finish(nnb_cabac *cabac) {
  if (nnb_cabac_overrun(cabac)) return NNB_TRUNCATED;
  cabac->range -= NNB_SCALED(2);
  if (cabac->window < cabac->range) return NNB_CABAC_END; /* terminating bin 0 */

  const uint64_t bits = nnb_bits_read(cabac); /* T + 9 >= 9; the last one is the stop bit */
  const size_t last = (size_t)((bits - 1) >> 3);
  if (last != cabac->size - 1) return NNB_CABAC_END;
  const uint32_t stop = 0x80u >> (uint32_t)((bits - 1) & 7);
  return (cabac->data[last] & (2 * stop - 1)) == stop ? NNB_OK : NNB_CABAC_END;
}
