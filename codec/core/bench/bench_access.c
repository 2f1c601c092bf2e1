/*
 * Decodes every piece of an extended stream, one after the other, as a device would:
 *
 *   bench_access STREAM [REPEAT]
 *
 * Prints elements, bytes of them, nanoseconds an element (the best run), and the largest work memory that a piece
 * needs. For instructions: valgrind --tool=callgrind --toggle-collect=nnb_piece_values bench_access STREAM
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "nnb/nnb_access.h"

typedef struct totals {
  uint64_t elements;
  uint64_t bytes;
  size_t work;
  size_t largest;
} totals;

static void *allocate(size_t size) {
  void *const memory = malloc(size > 0 ? size : 1);
  if (memory == NULL) exit(2);
  return memory;
}

static nnb_status decode(const uint8_t *data, size_t size, totals *t) {
  static nnb_access_piece found;
  static uint8_t name[65536 + 256];
  nnb_reader reader;
  nnb_access_unit au;
  nnb_status status = nnb_reader_open(&reader, data, size, UINT64_C(1) << 34);
  while (status == NNB_OK && (status = nnb_reader_next(&reader, &au)) == NNB_OK && au.size > 0) {
    while (status == NNB_OK && nnb_access_unit_next_piece(&au, &found, name, sizeof name)) {
      const size_t bytes = (size_t)nnb_piece_bytes(&found.piece);
      size_t work_size;
      status = nnb_piece_work_size(&found, &work_size);
      if (status != NNB_OK) return status;
      void *const work = allocate(work_size);
      uint8_t *const out = allocate(bytes);
      status = nnb_piece_values(&found, out, bytes, work, work_size);
      free(out);
      free(work);
      t->elements += found.piece.element_count;
      t->bytes += bytes;
      if (work_size > t->work) t->work = work_size;
      if (bytes > t->largest) t->largest = bytes;
    }
  }
  return status;
}

int main(int argc, char **argv) {
  FILE *const file = argc > 1 ? fopen(argv[1], "rb") : NULL;
  if (file == NULL || fseek(file, 0, SEEK_END) != 0) {
    fprintf(stderr, "usage: bench_access STREAM [REPEAT]\n");
    return 2;
  }
  const size_t size = (size_t)ftell(file);
  rewind(file);
  uint8_t *const data = allocate(size);
  if (fread(data, 1, size, file) != size) return 2;
  fclose(file);
  double best = 0;
  totals t = {0};
  for (long run = argc > 2 ? strtol(argv[2], NULL, 10) : 1; run > 0; run--) {
    memset(&t, 0, sizeof t);
    const clock_t start = clock();
    const nnb_status status = decode(data, size, &t);
    const double seconds = (double)(clock() - start) / CLOCKS_PER_SEC;
    if (status != NNB_OK) {
      fprintf(stderr, "status %d\n", (int)status);
      return 1;
    }
    if (best == 0 || seconds < best) best = seconds;
  }
  printf("%zu bytes of stream, %llu elements, %llu bytes, %.2f ns/element; largest piece %zu bytes, its work %zu\n",
         size, (unsigned long long)t.elements, (unsigned long long)t.bytes,
         1e9 * best / (double)(t.elements + !t.elements), t.largest, t.work);
  free(data);
  return 0;
}
