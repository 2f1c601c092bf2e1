/*
 * Speed of the core on made-up or given weights; not a test.
 *
 *   bench_core [count [scale [zeros]]]     Laplacian weights of that scale in steps, a share of them zero
 *   bench_core FILE.f32 width qp           raw binary32 weights
 *   bench_core FILE.f32 width qp N         the same, N rounds of nothing but dependent quantization
 *
 * The last one with N = 1 is for instruction counts:
 *   valgrind --tool=callgrind --toggle-collect=nnb_decode_tensor bench_core FILE.f32 width qp 1
 *
 * Prints nanoseconds of processor time per weight of each stage, best of some rounds.
 */
#define _POSIX_C_SOURCE 200809L
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "nnb/nnb.h"
#include "nnb/nnb_enc.h"

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static uint64_t seed = 1;

static double uniform(void) {
  seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
  return ((double)(seed >> 11) + 0.5) / 9007199254740992.0;
}

static void fail(const char *what, nnb_status status) {
  fprintf(stderr, "%s: status %d\n", what, (int)status);
  exit(1);
}

static uint8_t *grow(void *user, uint8_t *buffer, size_t used, size_t needed, size_t *capacity) {
  (void)user;
  *capacity = needed + used;
  return realloc(buffer, *capacity);
}

typedef struct weights {
  float *values;
  size_t height;
  size_t width;
  int32_t qp;
} weights;

static weights made_up(size_t count, double scale, double zeros) {
  weights w = {malloc(4 * count), count / 256, 256, 0};
  for (size_t i = 0; i < count; i++) {
    const double magnitude = -scale * log(uniform());
    w.values[i] = uniform() < zeros ? 0.0f : (float)(uniform() < 0.5 ? magnitude : -magnitude);
  }
  return w;
}

static weights from_file(const char *path, size_t width, int32_t qp) {
  FILE *file = fopen(path, "rb");
  if (file == NULL || fseek(file, 0, SEEK_END) != 0) fail(path, NNB_FILE_NOT_FOUND);
  const size_t count = (size_t)ftell(file) / 4;
  rewind(file);
  weights w = {malloc(4 * count), count / width, width, qp};
  if (fread(w.values, 4, count, file) != count) fail(path, NNB_FILE_IO);
  fclose(file);
  return w;
}

#define STAGE(name, call)                                     \
  do {                                                        \
    double best = 1e300;                                      \
    for (int round = 0; round < rounds; round++) {            \
      const double start = now();                             \
      const nnb_status status = (call);                       \
      const double spent = now() - start;                     \
      if (status != NNB_OK) fail(name, status);               \
      if (spent < best) best = spent;                         \
    }                                                         \
    printf("  %-28s %8.2f ns\n", name, best / (double)count); \
  } while (0)

static nnb_status encode(nnb_encoder *encoder, const nnb_level_coding *coding, const nnb_source *source) {
  uint8_t *const buffer = encoder->buffer;
  const size_t capacity = encoder->capacity;
  nnb_encoder_open(encoder, buffer, capacity, grow, NULL);
  const nnb_status status = nnb_encode_tensor(encoder, coding, source, NULL);
  return status == NNB_OK ? nnb_encoder_finish(encoder) : status;
}

static nnb_status decode(const nnb_encoder *payload, const nnb_level_coding *coding, const nnb_tensor *tensor) {
  nnb_cabac cabac;
  nnb_tensor_info info;
  nnb_status status = nnb_cabac_open(&cabac, payload->buffer, payload->size);
  if (status == NNB_OK) status = nnb_decode_tensor(&cabac, coding, tensor, &info);
  return status == NNB_OK ? nnb_cabac_finish(&cabac) : status;
}

static nnb_status quantize(const weights *w, int dq, uint32_t scan_order, int32_t *levels, void *work, size_t size) {
  int32_t qp = w->qp;
  if (!dq) return nnb_quantize_uniform(w->values, w->height * w->width, &qp, 2, levels);
  return nnb_quantize_dependent(w->values, w->height, w->width, scan_order, &qp, 2, levels, work, size);
}

static void measure(const weights *w, int dq, uint32_t scan_order, int rounds) {
  const size_t count = w->height * w->width;
  nnb_level_coding coding = {.height = w->height, .width = w->width, .unary_length = 11, .profile = 1, .qp_bits = 8};
  coding.dq = (uint8_t)dq;
  coding.scan_order = (uint8_t)scan_order;
  const size_t work_size = nnb_quantize_work_size(w->height, w->width);
  const size_t choose_size = nnb_choose_work_size(&coding);
  void *const work = malloc(work_size);
  void *const choose_work = malloc(choose_size);
  int32_t *const levels = malloc(4 * count);
  int32_t *const again = malloc(4 * count);
  nnb_context *const contexts = calloc(nnb_context_count(11), sizeof *contexts);
  uint8_t *const sets = calloc(nnb_context_count(11), 1);
  nnb_source source = {.levels = levels, .contexts = contexts, .initial_sets = sets};
  nnb_tensor tensor = {.levels = again, .contexts = contexts, .row_skip_list = malloc(w->height)};
  nnb_encoder encoder = {.buffer = NULL};

  printf("%s, scan_order %u\n", dq ? "dependent" : "uniform", scan_order);
  STAGE("quantize", quantize(w, dq, scan_order, levels, work, work_size));
  STAGE("choose sets (cost)", nnb_choose_initial_sets(&coding, &source, NNB_SETS_COST, choose_work, choose_size, sets));
  STAGE("choose sets (peer)", nnb_choose_initial_sets(&coding, &source, NNB_SETS_PEER, choose_work, choose_size, sets));
  STAGE("encode", encode(&encoder, &coding, &source));
  STAGE("decode", decode(&encoder, &coding, &tensor));
  if (memcmp(levels, again, 4 * count) != 0) fail("decoded levels differ", NNB_INTERNAL);
  printf("  %.3f bits per weight\n", 8.0 * (double)encoder.size / (double)count);

  free(encoder.buffer);
  free(tensor.row_skip_list);
  free(sets);
  free(contexts);
  free(again);
  free(levels);
  free(choose_work);
  free(work);
}

int main(int argc, char **argv) {
  weights w;
  if (argc > 3 && strtod(argv[1], NULL) == 0) {
    w = from_file(argv[1], strtoull(argv[2], NULL, 10), (int32_t)strtol(argv[3], NULL, 10));
  } else {
    const size_t count = argc > 1 ? strtoull(argv[1], NULL, 10) : 1u << 22;
    w = made_up(count & ~(size_t)255, argc > 2 ? strtod(argv[2], NULL) : 3.0, argc > 3 ? strtod(argv[3], NULL) : 0);
  }
  int rounds = w.height * w.width < 1000000 ? 60 : 5; /* the best of many short ones where others use the machine */
  const int only = argc > 4 && strtod(argv[1], NULL) == 0 ? atoi(argv[4]) : 0;
  if (only > 0) rounds = only;
  measure(&w, 1, 0, rounds);
  if (only > 0) return 0;
  measure(&w, 0, 0, rounds);
  measure(&w, 1, 3, rounds);
  free(w.values);
  return 0;
}
