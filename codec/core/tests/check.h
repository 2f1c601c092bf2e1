/* A check that names itself; tests return the number of failures. */
#ifndef NNB_CHECK_H
#define NNB_CHECK_H

#include <stdio.h>

static int failures;

#define CHECK(condition)                                                        \
  do {                                                                          \
    if (!(condition)) {                                                         \
      fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition); \
      failures++;                                                               \
    }                                                                           \
  } while (0)

#endif
