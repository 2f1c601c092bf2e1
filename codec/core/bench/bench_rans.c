/*
 * Speed of the rANS coder on made-up symbols; not a test.
 *
 *   bench_rans [count [rounds]]
 *
 * Prints nanoseconds per 1000 symbols and millions of symbols per second of each path, best of some rounds: histogram,
 * encoding (with histogram, normalization and tables) and decoding (with reading the tables).
 */
#define _POSIX_C_SOURCE 200809L
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "nnb/nnb_rans_enc.h"

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static uint64_t seed = 1;

static double uniform(void) {
  seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
  return ((double)(seed >> 11) + 0.5) / 9007199254740992.0;
}

static double gaussian(void) { return sqrt(-2 * log(uniform())) * cos(6.283185307179586 * uniform()); }

/* A byte of a Gaussian weight as binary32: `shift` right, `mask`ed. */
static uint8_t float_bits(double sigma, int shift, uint32_t mask) {
  const float value = (float)(sigma * gaussian());
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return (uint8_t)(bits >> shift & mask);
}

typedef struct sample {
  const char *name;
  uint32_t table_count;
  uint8_t *symbols;
  uint8_t *contexts; /* NULL without */
  uint8_t map[256];
} sample;

static void check(nnb_status status, const char *what) {
  if (status == NNB_OK) return;
  fprintf(stderr, "%s: status %d\n", what, (int)status);
  exit(1);
}

static const char *const path_names[] = {"auto", "scalar", "avx2", "avx512", "neon"};

static void measure(const sample *s, size_t count, int rounds) {
  const uint32_t tables = s->table_count;
  const uint8_t *const map = s->contexts == NULL ? NULL : s->map;
  uint32_t *const histograms = malloc(tables * 256 * sizeof *histograms);
  uint16_t *const frequencies = malloc(tables * 256 * sizeof *frequencies);
  uint8_t *const serialized = malloc(tables * (size_t)NNB_RANS_TABLES_BOUND);
  uint8_t *const code = malloc(nnb_rans_bound(count));
  uint8_t *const decoded = malloc(count);
  void *const work = malloc(nnb_rans_work_size(tables));
  nnb_rans_row *const rows = malloc(tables * 256 * sizeof *rows);
  const size_t scratch_size = tables * (size_t)16384 + 3;
  void *const scratch = malloc(scratch_size);
  size_t size = 0, table_size = 0;
  for (int path = NNB_RANS_SCALAR; path <= NNB_RANS_NEON; path++) {
    if (!nnb_rans_has_path((nnb_rans_path)path)) continue;
    double best[5] = {1e300, 1e300, 1e300, 1e300, 1e300};
    for (int r = 0; r < rounds; r++) {
      const double t0 = now();
      check(nnb_rans_histogram(s->symbols, s->contexts, map, count, tables, histograms), "histogram");
      const double t1 = now();
      check(nnb_rans_sample_histogram(s->symbols, s->contexts, map, count, tables, histograms), "sample");
      const double t2 = now();
      for (uint32_t t = 0; t < tables; t++) nnb_rans_normalize(histograms + t * 256, frequencies + t * 256);
      table_size = nnb_rans_write_tables(frequencies, tables, serialized, tables * (size_t)NNB_RANS_TABLES_BOUND);
      check(nnb_rans_encode((nnb_rans_path)path, frequencies, tables, s->contexts, map, s->symbols, count, work,
                            nnb_rans_work_size(tables), code, nnb_rans_bound(count), &size),
            "encode");
      const double t3 = now();
      size_t used;
      nnb_rans_model model;
      check(nnb_rans_read_tables(serialized, table_size, &used, rows, tables * (size_t)256, tables, &model), "tables");
      check(nnb_rans_decode((nnb_rans_path)path, &model, s->contexts, map, code, size, decoded, count, scratch,
                            scratch_size),
            "decode");
      const double t4 = now();
      const double times[5] = {t1 - t0, t2 - t1, t3 - t2, t3 - t1, t4 - t3};
      for (int k = 0; k < 5; k++) best[k] = times[k] < best[k] ? times[k] : best[k];
    }
    if (memcmp(decoded, s->symbols, count) != 0) check(NNB_INTERNAL, "decoded");
    printf("%-22s %-7s %6.3f bits  histogram %5.0f  sampled %5.0f  encode %5.0f  with sample %5.0f  decode %5.0f M/s\n",
           s->name, path_names[path], 8.0 * (double)size / (double)count, (double)count * 1e3 / best[0],
           (double)count * 1e3 / best[1], (double)count * 1e3 / best[2], (double)count * 1e3 / best[3],
           (double)count * 1e3 / best[4]);
  }
  free(histograms), free(frequencies), free(serialized), free(code), free(decoded), free(work), free(rows);
  free(scratch);
}

int main(int argc, char **argv) {
  const size_t count = argc > 1 ? (size_t)atoll(argv[1]) : (size_t)1 << 18;
  const int rounds = argc > 2 ? atoi(argv[2]) : 200;
  uint8_t *const a = malloc(count);
  uint8_t *const b = malloc(count);
  sample s;
  for (int kind = 0; kind < 7; kind++) {
    memset(&s, 0, sizeof s);
    s.symbols = a;
    s.table_count = 1;
    for (size_t i = 0; i < count; i++) {
      switch (kind) {
        case 0:
          s.name = "exponents";
          a[i] = float_bits(0.03, 23, 255);
          break;
        case 1:
          s.name = "exponents 60 symbols";
          a[i] = (uint8_t)(i % 100 ? float_bits(0.03, 23, 255) : i / 100 % 60 + 80);
          break;
        case 2:
          s.name = "exponent, 1 bit";
          a[i] = (uint8_t)(float_bits(0.03, 22, 255));
          break;
        case 3:
          s.name = "256 symbols";
          a[i] = (uint8_t)lrint(fmin(fmax(gaussian() * 30, -128), 127));
          break;
        case 4:
          s.name = "2 bits | 12 exponents";
          s.contexts = b;
          s.table_count = 12;
          a[i] = float_bits(0.03, 21, 1023) & 3;
          b[i] = float_bits(0.03, 23, 255);
          for (int c = 0; c < 256; c++) s.map[c] = (uint8_t)(c < 112 ? 0 : c < 123 ? c - 112 : 11);
          break;
        case 5:
          s.name = "exponent, 2 bits | i % 4";
          s.contexts = b;
          s.table_count = 4;
          a[i] = float_bits(0.03, 21, 255);
          b[i] = (uint8_t)i;
          for (int c = 0; c < 256; c++) s.map[c] = (uint8_t)(c % 4);
          break;
        default:
          s.name = "3 bits | 12 exponents";
          s.contexts = b;
          s.table_count = 12;
          a[i] = float_bits(0.03, 20, 2047) & 7;
          b[i] = float_bits(0.03, 23, 255);
          for (int c = 0; c < 256; c++) s.map[c] = (uint8_t)(c < 112 ? 0 : c < 123 ? c - 112 : 11);
          break;
      }
    }
    measure(&s, count, rounds);
  }
  free(a), free(b);
  return 0;
}
