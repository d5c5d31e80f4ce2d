/*
 * tide_header.c
 *		Header names and values as they travel in broker messages.
 *
 * Owns: encoding, decoding, allowed names.  Does not own: which headers exist.
 */
#include "tide_header.h"

#include <string.h>

#include "tide_text.h"

static bool
must_encode(char c)
{
	return tide_is_control(c) || (unsigned char) c > 0x7F || c == ' ' || c == '"' || c == '%';
}

bool
tide_header_encode(TideBuf *out, const char *value, size_t len)
{
	size_t done = 0;

	for (size_t i = 0; i < len; i++)
	{
		if (!must_encode(value[i]))
			continue;
		if (i > done)
			tide_buf_append(out, value + done, i - done);
		tide_percent_append(out, (unsigned char) value[i]);
		done = i + 1;
	}
	if (len > done)
		tide_buf_append(out, value + done, len - done);
	return !out->oom;
}

/* Puts the byte at value[*i] into *byte and moves *i past it; false if malformed. */
static bool
decode_byte(const char *value, size_t len, size_t *i, char *byte)
{
	char c = value[(*i)++];
	int high;
	int low;

	if (c == '\r' || c == '\n' || c == '\0')
		return false;
	*byte = c;
	if (c != '%')
		return true;
	if (len - *i < 2)
		return false;
	high = tide_hex_value(value[(*i)++]);
	low = tide_hex_value(value[(*i)++]);
	if (high < 0 || low < 0)
		return false;
	*byte = (char) (high << 4 | low);
	return true;
}

bool
tide_header_decode(TideBuf *out, const char *value, size_t len)
{
	size_t before = out->len;

	for (size_t i = 0; i < len;)
	{
		char byte;

		if (!decode_byte(value, len, &i, &byte) || !tide_buf_append_char(out, byte))
		{
			out->len = before;
			if (out->data != NULL)
				out->data[before] = '\0';
			return false;
		}
	}
	return !out->oom;
}

static bool
is_token_char(char c)
{
	static const char others[] = "!#$%&'*+-.^_`|~";

	if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'))
		return true;
	return c != '\0' && strchr(others, c) != NULL;
}

static bool
is_reserved(const char *name, size_t len)
{
	static const char *const prefixes[] = {"nats-", "ce-", "tide-"};
	static const char exact[] = "content-type";

	for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++)
	{
		size_t n = strlen(prefixes[i]);

		if (len >= n && tide_ascii_equal(name, n, prefixes[i], n))
			return true;
	}
	return tide_ascii_equal(name, len, exact, sizeof(exact) - 1);
}

bool
tide_header_name_ok(const char *name, size_t len)
{
	if (len < 1 || len > TIDE_HEADER_NAME_MAX)
		return false;
	for (size_t i = 0; i < len; i++)
	{
		if (!is_token_char(name[i]))
			return false;
	}
	return !is_reserved(name, len);
}
