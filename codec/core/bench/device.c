/*
 * What a device links to decode extended streams, for its code size (bench/results/device.md). With EXACT_ONLY
 * quantized pieces are left out: definitions here take the place of those of src/dec/piece_coded.c, which then is not
 * linked.
 */
#include "nnb/nnb_access.h"

#if defined(EXACT_ONLY)
#include "dec/piece.h"

nnb_status nnb_coded_work_size(const nnb_access_piece *found, uint64_t *size) {
  (void)found;
  *size = 0;
  return NNB_UNSUPPORTED_FEATURE;
}

nnb_status nnb_coded_values(const nnb_access_piece *found, uint8_t *out, uint8_t *work) {
  (void)found;
  (void)out;
  (void)work;
  return NNB_UNSUPPORTED_FEATURE;
}
#endif

/* Memory of the device; places are given to the linker. */
extern const uint8_t stream[];
extern const uint8_t stream_end[];
extern uint8_t elements[];
extern uint64_t work[];
extern const uint8_t work_end[];

int decode_all(void);

int decode_all(void) {
  static nnb_reader reader;
  static nnb_access_unit au;
  static nnb_access_piece found;
  static uint8_t name[256];
  const size_t capacity = (size_t)(work_end - (const uint8_t *)work);
  nnb_status status = nnb_reader_open(&reader, stream, (size_t)(stream_end - stream), 1u << 20);
  while (status == NNB_OK && (status = nnb_reader_next(&reader, &au)) == NNB_OK && au.size > 0) {
    while (status == NNB_OK && nnb_access_unit_next_piece(&au, &found, name, sizeof name)) {
      status = nnb_piece_values(&found, elements, (size_t)nnb_piece_bytes(&found.piece), work, capacity);
    }
  }
  return (int)status;
}
