/*
 * tide_text.c
 *		Small rules about text that several modules share.
 *
 * Owns: spans, UTF-8 validity, percent escapes, strict numbers, names.  Does
 * not own: any format made of them.
 */
#include "tide_text.h"

static bool
is_ascii_alnum(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

bool
tide_name_ok(const char *name, size_t len)
{
	if (name == NULL || len < 1 || len > TIDE_NAME_MAX)
		return false;
	for (size_t i = 0; i < len; i++)
	{
		if (!is_ascii_alnum(name[i]) && name[i] != '_' && name[i] != '-')
			return false;
	}
	return true;
}

/*
 * What follows a lead byte: how many bytes in all, and the range of the second
 * one.  The ranges are what keeps out overlong forms, surrogates and values
 * past U+10FFFF (Unicode, table 3-7).
 */
static size_t
utf8_lead(unsigned char lead, unsigned char *low, unsigned char *high)
{
	*low = 0x80;
	*high = 0xBF;
	if (lead < 0x80)
		return 1;
	if (lead < 0xC2 || lead > 0xF4)
		return 0;
	if (lead < 0xE0)
		return 2;
	if (lead == 0xE0)
		*low = 0xA0;
	else if (lead == 0xED)
		*high = 0x9F;
	else if (lead == 0xF0)
		*low = 0x90;
	else if (lead == 0xF4)
		*high = 0x8F;
	return lead < 0xF0 ? 3 : 4;
}

size_t
tide_utf8_sequence(const char *s, size_t len)
{
	const unsigned char *u = (const unsigned char *) s;
	unsigned char low;
	unsigned char high;
	size_t n = utf8_lead(u[0], &low, &high);

	if (n > len)
		return 0;
	if (n > 1 && (u[1] < low || u[1] > high))
		return 0;
	for (size_t i = 2; i < n; i++)
	{
		if ((u[i] & 0xC0) != 0x80)
			return 0;
	}
	return n;
}

bool
tide_utf8_valid(const char *s, size_t len)
{
	for (size_t i = 0; i < len;)
	{
		size_t n = tide_utf8_sequence(s + i, len - i);

		if (n == 0)
			return false;
		i += n;
	}
	return true;
}

bool
tide_is_space(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

bool
tide_is_control(char c)
{
	return (unsigned char) c < 0x20 || c == 0x7F;
}

int
tide_hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

bool
tide_percent_append(TideBuf *out, unsigned char byte)
{
	static const char digits[] = "0123456789ABCDEF";
	const char escape[3] = {'%', digits[byte >> 4], digits[byte & 15]};

	return tide_buf_append(out, escape, sizeof(escape));
}

static char
ascii_lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char) (c - 'A' + 'a') : c;
}

bool
tide_ascii_equal(const char *a, size_t a_len, const char *b, size_t b_len)
{
	if (a_len != b_len)
		return false;
	for (size_t i = 0; i < a_len; i++)
	{
		if (ascii_lower(a[i]) != ascii_lower(b[i]))
			return false;
	}
	return true;
}

bool
tide_parse_u64(const char *s, size_t len, uint64_t *out)
{
	uint64_t value = 0;

	if (len == 0)
		return false;
	for (size_t i = 0; i < len; i++)
	{
		unsigned digit = (unsigned char) s[i] - (unsigned) '0';

		if (digit > 9 || value > (UINT64_MAX - digit) / 10)
			return false;
		value = value * 10 + digit;
	}
	*out = value;
	return true;
}
