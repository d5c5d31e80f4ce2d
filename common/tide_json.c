/*
 * tide_json.c
 *		Is this text JSON?
 *
 * Owns: see tide_json.h.  An iterative scanner: what is open is kept as one bit
 * per level (object or array), so hostile nesting costs no stack.
 */
#include "tide_json.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "tide_text.h"

typedef struct Scanner
{
	const char *p;
	const char *end;
	size_t depth;
	uint8_t is_object[TIDE_JSON_MAX_DEPTH / 8];
} Scanner;

static bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static void
skip_space(Scanner *s)
{
	while (s->p < s->end && (*s->p == ' ' || *s->p == '\t' || *s->p == '\n' || *s->p == '\r'))
		s->p++;
}

static bool
skip_digits(Scanner *s)
{
	const char *start = s->p;

	while (s->p < s->end && is_digit(*s->p))
		s->p++;
	return s->p > start;
}

static bool
scan_number(Scanner *s)
{
	if (*s->p == '-')
		s->p++;
	if (s->p < s->end && *s->p == '0')
		s->p++;
	else if (!skip_digits(s))
		return false;
	if (s->p < s->end && *s->p == '.')
	{
		s->p++;
		if (!skip_digits(s))
			return false;
	}
	if (s->p < s->end && (*s->p == 'e' || *s->p == 'E'))
	{
		s->p++;
		if (s->p < s->end && (*s->p == '+' || *s->p == '-'))
			s->p++;
		if (!skip_digits(s))
			return false;
	}
	return true;
}

static bool
scan_escape(Scanner *s)
{
	s->p++; /* the backslash */
	if (s->p >= s->end)
		return false;
	if (*s->p == 'u')
	{
		for (int i = 1; i <= 4; i++)
		{
			if (s->end - s->p <= i || tide_hex_value(s->p[i]) < 0)
				return false;
		}
		s->p += 5;
		return true;
	}
	if (*s->p == '\0' || strchr("\"\\/bfnrt", *s->p) == NULL)
		return false;
	s->p++;
	return true;
}

static bool
scan_string(Scanner *s)
{
	s->p++; /* the opening quote */
	while (s->p < s->end && *s->p != '"')
	{
		unsigned char c = (unsigned char) *s->p;

		if (c == '\\')
		{
			if (!scan_escape(s))
				return false;
		}
		else if (c < 0x20)
			return false;
		else if (c < 0x80)
			s->p++;
		else
		{
			size_t n = tide_utf8_sequence(s->p, (size_t) (s->end - s->p));

			if (n == 0)
				return false;
			s->p += n;
		}
	}
	if (s->p >= s->end)
		return false;
	s->p++;
	return true;
}

static bool
scan_word(Scanner *s, const char *word)
{
	size_t len = strlen(word);

	if ((size_t) (s->end - s->p) < len || memcmp(s->p, word, len) != 0)
		return false;
	s->p += len;
	return true;
}

static bool
scan_scalar(Scanner *s)
{
	switch (*s->p)
	{
		case '"':
			return scan_string(s);
		case 't':
			return scan_word(s, "true");
		case 'f':
			return scan_word(s, "false");
		case 'n':
			return scan_word(s, "null");
		default:
			return (*s->p == '-' || is_digit(*s->p)) && scan_number(s);
	}
}

static bool
top_is_object(const Scanner *s)
{
	size_t level = s->depth - 1;

	return (s->is_object[level / 8] >> (level % 8) & 1) != 0;
}

static void
push(Scanner *s, bool object)
{
	size_t level = s->depth++;
	uint8_t bit = (uint8_t) (1u << (level % 8));

	if (object)
		s->is_object[level / 8] |= bit;
	else
		s->is_object[level / 8] &= (uint8_t) ~bit;
}

/* "name" : */
static bool
scan_member_name(Scanner *s)
{
	skip_space(s);
	if (s->p >= s->end || *s->p != '"' || !scan_string(s))
		return false;
	skip_space(s);
	if (s->p >= s->end || *s->p != ':')
		return false;
	s->p++;
	return true;
}

/* After a value: closes what ends here.  True with depth 0, or before the next value. */
static bool
scan_after_value(Scanner *s)
{
	while (s->depth > 0)
	{
		skip_space(s);
		if (s->p >= s->end)
			return false;
		if (*s->p == ',')
		{
			s->p++;
			return !top_is_object(s) || scan_member_name(s);
		}
		if (*s->p != (top_is_object(s) ? '}' : ']'))
			return false;
		s->p++;
		s->depth--;
	}
	return true;
}

/* Opens an object or array.  *empty: it ended at once, so a value is complete. */
static bool
scan_open(Scanner *s, bool *empty)
{
	bool object = *s->p == '{';

	push(s, object);
	s->p++;
	skip_space(s);
	*empty = s->p < s->end && *s->p == (object ? '}' : ']');
	if (*empty)
	{
		s->p++;
		s->depth--;
		return true;
	}
	return !object || scan_member_name(s);
}

TideJsonVerdict
tide_json_check(const char *text, size_t len)
{
	Scanner s;

	s.p = text;
	s.end = text + len;
	s.depth = 0;
	do
	{
		bool complete = true;

		skip_space(&s);
		if (s.p >= s.end)
			return TIDE_JSON_INVALID;
		if (*s.p == '{' || *s.p == '[')
		{
			if (s.depth == TIDE_JSON_MAX_DEPTH)
				return TIDE_JSON_TOO_DEEP;
			if (!scan_open(&s, &complete))
				return TIDE_JSON_INVALID;
		}
		else if (!scan_scalar(&s))
			return TIDE_JSON_INVALID;
		if (complete && !scan_after_value(&s))
			return TIDE_JSON_INVALID;
	}
	while (s.depth > 0);
	skip_space(&s);
	return s.p == s.end ? TIDE_JSON_VALID : TIDE_JSON_INVALID;
}

char
tide_json_first(const char *text, size_t len)
{
	Scanner s;

	s.p = text;
	s.end = text + len;
	skip_space(&s);
	return s.p < s.end ? *s.p : '\0';
}
