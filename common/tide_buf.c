/*
 * tide_buf.c
 *		A growing byte buffer whose memory comes from wherever the caller says.
 *
 * Owns: growth and the sticky failure flag.  Does not own: memory policy.
 */
#include "tide_buf.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_CAPACITY 64

void
tide_buf_init(TideBuf *buf)
{
	tide_buf_init_with(buf, realloc, free);
}

void
tide_buf_init_with(TideBuf *buf, TideResize resize, TideRelease release)
{
	*buf = (TideBuf){.resize = resize, .release = release};
}

void
tide_buf_init_fixed(TideBuf *buf, char *memory, size_t size)
{
	*buf = (TideBuf){.data = memory, .cap = size};
	memory[0] = '\0';
}

void
tide_buf_free(TideBuf *buf)
{
	if (buf->resize != NULL)
	{
		if (buf->data != NULL && buf->release != NULL)
			buf->release(buf->data);
		buf->data = NULL;
		buf->cap = 0;
	}
	tide_buf_reset(buf);
}

void
tide_buf_reset(TideBuf *buf)
{
	buf->len = 0;
	buf->oom = false;
	if (buf->data != NULL)
		buf->data[0] = '\0';
}

bool
tide_buf_reserve(TideBuf *buf, size_t extra)
{
	size_t need; /* with the NUL */
	size_t cap = buf->cap < FIRST_CAPACITY ? FIRST_CAPACITY : buf->cap;
	char *data;

	if (buf->oom)
		return false;
	if (extra < buf->cap && buf->len < buf->cap - extra)
		return true;
	if (buf->resize == NULL || extra >= SIZE_MAX / 2 - buf->len)
	{
		buf->oom = true;
		return false;
	}
	need = buf->len + extra + 1;
	while (cap < need)
		cap *= 2; /* can't overflow: need <= SIZE_MAX / 2 */
	data = buf->resize(buf->data, cap);
	if (data == NULL)
	{
		buf->oom = true;
		return false;
	}
	buf->data = data;
	buf->cap = cap;
	return true;
}

/*
 * After a cut in the middle of fixed memory: drops the beginning of a UTF-8
 * sequence whose rest did not fit, so that valid text stays valid text.
 */
static void
trim_partial_sequence(TideBuf *buf)
{
	size_t start = buf->len;
	unsigned char lead;
	size_t want;

	while (start > 0 && buf->len - start < 3 &&
		   ((unsigned char) buf->data[start - 1] & 0xC0) == 0x80)
		start--;
	if (start == 0)
		return;
	lead = (unsigned char) buf->data[start - 1];
	want = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : lead >= 0xC0 ? 2 : 1;
	if (want > buf->len - (start - 1))
		buf->len = start - 1;
	buf->data[buf->len] = '\0';
}

/* Fixed memory only: keeps what fits of data, after tide_buf_reserve() failed for all of it. */
static void
append_cut(TideBuf *buf, const void *data)
{
	size_t room = buf->cap - 1 - buf->len;

	if (room > 0)
		memcpy(buf->data + buf->len, data, room);
	buf->len += room;
	trim_partial_sequence(buf);
}

bool
tide_buf_append(TideBuf *buf, const void *data, size_t len)
{
	bool was_oom = buf->oom;

	if (!tide_buf_reserve(buf, len))
	{
		if (!was_oom && buf->resize == NULL)
			append_cut(buf, data);
		return false;
	}
	if (len > 0)
		memcpy(buf->data + buf->len, data, len);
	buf->len += len;
	buf->data[buf->len] = '\0';
	return true;
}

bool
tide_buf_append_str(TideBuf *buf, const char *s)
{
	return tide_buf_append(buf, s, strlen(s));
}

bool
tide_buf_append_char(TideBuf *buf, char c)
{
	return tide_buf_append(buf, &c, 1);
}

bool
tide_buf_vprintf(TideBuf *buf, const char *fmt, va_list args)
{
	va_list again;
	int len;
	bool was_oom = buf->oom;

	va_copy(again, args);
	len = vsnprintf(NULL, 0, fmt, again);
	va_end(again);
	if (len < 0)
		buf->oom = true;
	if (len >= 0 && tide_buf_reserve(buf, (size_t) len))
	{
		vsnprintf(buf->data + buf->len, (size_t) len + 1, fmt, args);
		buf->len += (size_t) len;
	}
	else if (len >= 0 && !was_oom && buf->resize == NULL)
	{
		vsnprintf(buf->data + buf->len, buf->cap - buf->len, fmt, args);
		buf->len = buf->cap - 1;
		trim_partial_sequence(buf);
	}
	return !buf->oom;
}

bool
tide_buf_printf(TideBuf *buf, const char *fmt, ...)
{
	va_list args;
	bool ok;

	va_start(args, fmt);
	ok = tide_buf_vprintf(buf, fmt, args);
	va_end(args);
	return ok;
}

const char *
tide_buf_cstr(const TideBuf *buf)
{
	return buf->data != NULL ? buf->data : "";
}
