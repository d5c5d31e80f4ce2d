/*
 * tide_text.h
 *		Small rules about text that several modules share.
 *
 * Owns: spans, UTF-8 validity, percent escapes, strict numbers, names.  Does
 * not own: any format made of them.  Everything here is ASCII by the book and
 * independent of the locale.
 */
#ifndef TIDE_TEXT_H
#define TIDE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tide_buf.h"

/* Borrowed bytes, not NUL-terminated.  ptr == NULL: absent. */
typedef struct TideSpan
{
	const char *ptr;
	size_t len;
} TideSpan;

#define TIDE_NAME_MAX 63

/*
 * May this be the name of a region, outbox, inbox or pipeline: 1 to 63 bytes
 * of ASCII letters, digits, '_' and '-'.  Only ASCII letters: names become
 * subject tokens, file names and metric labels, where other letters have
 * several spellings of the same look.
 */
extern bool tide_name_ok(const char *name, size_t len);

/* Valid UTF-8 without overlong forms, surrogates or anything past U+10FFFF. */
extern bool tide_utf8_valid(const char *s, size_t len);
/* Length (1 to 4) of the valid UTF-8 sequence that begins at s; 0 if there is none.  len >= 1. */
extern size_t tide_utf8_sequence(const char *s, size_t len);

extern bool tide_is_space(char c);	 /* space, \t \n \v \f \r */
extern bool tide_is_control(char c); /* 0x00-0x1f and 0x7f */
extern int tide_hex_value(char c);	 /* 0 to 15, or -1 */

/* Appends %XX, upper case. */
extern bool tide_percent_append(TideBuf *out, unsigned char byte);

/* Case-insensitive comparison of ASCII; true if equal. */
extern bool tide_ascii_equal(const char *a, size_t a_len, const char *b, size_t b_len);

/* Decimal digits only (no sign, no space), the whole span, no overflow. */
extern bool tide_parse_u64(const char *s, size_t len, uint64_t *out);

#endif /* TIDE_TEXT_H */
