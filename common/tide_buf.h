/*
 * tide_buf.h
 *		A growing byte buffer whose memory comes from wherever the caller says.
 *
 * Owns: appending bytes safely.  Does not own: any policy about memory; the
 * server passes palloc-backed functions, the relay uses the C library's, and
 * tests can pass functions that fail.
 *
 * Running out of memory is sticky: the append that fails sets oom and changes
 * nothing else, later appends do nothing, and the caller looks once, at the end.
 * The data is always followed by a NUL that len does not count.
 */
#ifndef TIDE_BUF_H
#define TIDE_BUF_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

/* resize(NULL, n) allocates; returns NULL on failure and leaves ptr valid then. */
typedef void *(*TideResize)(void *ptr, size_t size);
typedef void (*TideRelease)(void *ptr);

typedef struct TideBuf
{
	char *data;			 /* NULL until the first append; see tide_buf_cstr */
	size_t len;			 /* bytes used, without the closing NUL */
	size_t cap;			 /* bytes allocated */
	bool oom;			 /* something did not fit or could not be allocated */
	TideResize resize;	 /* NULL: fixed memory, never grows */
	TideRelease release; /* NULL: nothing to release */
} TideBuf;

extern void tide_buf_init(TideBuf *buf); /* realloc and free of the C library */
extern void tide_buf_init_with(TideBuf *buf, TideResize resize, TideRelease release);
/* Fixed memory of the caller, size >= 1: what does not fit is cut off and sets oom. */
extern void tide_buf_init_fixed(TideBuf *buf, char *memory, size_t size);
extern void tide_buf_free(TideBuf *buf);  /* back to empty; may be used again */
extern void tide_buf_reset(TideBuf *buf); /* empties it, clears oom, keeps the memory */

/* Each returns false if oom is (now) set.  data must not point into buf. */
extern bool tide_buf_append(TideBuf *buf, const void *data, size_t len);
extern bool tide_buf_append_str(TideBuf *buf, const char *s);
extern bool tide_buf_append_char(TideBuf *buf, char c);
extern bool
tide_buf_printf(TideBuf *buf, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
extern bool
tide_buf_vprintf(TideBuf *buf, const char *fmt, va_list args) __attribute__((format(printf, 2, 0)));

/* Room for extra bytes and a NUL after data[len]; the caller fills them and adds to len itself. */
extern bool tide_buf_reserve(TideBuf *buf, size_t extra);

/* Never NULL: "" if nothing was appended.  Valid until the next append. */
extern const char *tide_buf_cstr(const TideBuf *buf);

#endif /* TIDE_BUF_H */
