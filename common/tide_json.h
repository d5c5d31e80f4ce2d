/*
 * tide_json.h
 *		Is this text JSON?
 *
 * Owns: the grammar of RFC 8259, strictly, in UTF-8.  Does not own: values; it
 * builds nothing.  Libraries that build refuse numbers that jsonb takes
 * (1e400, integers of 40 digits), so they can't answer this question.
 */
#ifndef TIDE_JSON_H
#define TIDE_JSON_H

#include <stddef.h>

#define TIDE_JSON_MAX_DEPTH 8192

typedef enum TideJsonVerdict
{
	TIDE_JSON_INVALID,
	TIDE_JSON_VALID,
	TIDE_JSON_TOO_DEEP /* JSON as far as looked at, nested deeper than TIDE_JSON_MAX_DEPTH */
} TideJsonVerdict;

/* The whole text must be one value; white space around it is fine.  Never recurses. */
extern TideJsonVerdict tide_json_check(const char *text, size_t len);

/* First byte of the value ('{', '[', '"', digit ...); 0 if there is only white space. */
extern char tide_json_first(const char *text, size_t len);

#endif /* TIDE_JSON_H */
