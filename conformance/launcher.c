/*
 * Starts a program and says how much memory it held:
 *
 *   launcher FILE PROGRAM ARGUMENT...
 *
 * FILE receives the largest resident memory of the program, KiB; the exit status or signal is that of the program.
 * Linux counts what a process held before it became another program, so that one started by a large process would seem
 * large: this one is small.
 */
#define _POSIX_C_SOURCE 200809L
#define _DEFAULT_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv) {
  int status;
  struct rusage usage;
  if (argc < 3) return 2;
  const pid_t child = fork();
  if (child < 0) return 2;
  if (child == 0) {
    execvp(argv[2], argv + 2);
    perror(argv[2]);
    _exit(2);
  }
  if (wait4(child, &status, 0, &usage) != child) return 2;
  FILE *const file = fopen(argv[1], "w");
  if (file == NULL || fprintf(file, "%ld\n", usage.ru_maxrss) < 0 || fclose(file) != 0) return 2;
  if (WIFSIGNALED(status)) {
    signal(WTERMSIG(status), SIG_DFL);
    raise(WTERMSIG(status));
  }
  return WEXITSTATUS(status);
}
