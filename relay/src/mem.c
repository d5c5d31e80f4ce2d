/*
 * mem.c
 *		Memory outside arenas: allocation that never returns NULL.
 */
#include "mem.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "exit_codes.h"

/*
 * Nothing here may allocate, so the line is written by hand and not by the log
 * module.  _exit: other threads are in the middle of their work.
 */
void
tide_out_of_memory(size_t wanted)
{
	char line[128];
	int len = snprintf(line, sizeof(line), "level=error msg=\"out of memory\" wanted_bytes=%zu\n",
					   wanted);
	ssize_t ignored = write(STDERR_FILENO, line, (size_t) len);

	(void) ignored;
	_exit(TIDE_EXIT_NO_MEMORY);
}

void *
tide_malloc(size_t size)
{
	void *p = malloc(size > 0 ? size : 1);

	if (p == NULL)
		tide_out_of_memory(size);
	return p;
}

void *
tide_zalloc(size_t size)
{
	void *p = calloc(1, size > 0 ? size : 1);

	if (p == NULL)
		tide_out_of_memory(size);
	return p;
}

void *
tide_realloc(void *old, size_t size)
{
	void *p = realloc(old, size > 0 ? size : 1);

	if (p == NULL)
		tide_out_of_memory(size);
	return p;
}

char *
tide_strdup(const char *s)
{
	char *copy = strdup(s);

	if (copy == NULL)
		tide_out_of_memory(strlen(s) + 1);
	return copy;
}

char *
tide_printf(const char *fmt, ...)
{
	va_list args;
	char *text;
	int len;

	va_start(args, fmt);
	len = vasprintf(&text, fmt, args);
	va_end(args);
	if (len < 0)
		tide_out_of_memory(strlen(fmt));
	return text;
}
