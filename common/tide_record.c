/*
 * tide_record.c
 *		The records in frames: reading and writing integers, strings, tuples.
 *
 * Owns: that nothing is ever read past the end, whatever lengths the bytes
 * claim.  Does not own: header and body of a frame (tide_frame.c), what a
 * record means.
 */
#include "tide_frame.h"

#include <string.h>

#include "tide_bytes.h"

#define RECORD_HEADER 5 /* type, length */

/* ---- reading ---- */

void
tide_cursor_init(TideCursor *cursor, const void *data, size_t len)
{
	cursor->at = len > 0 ? data : (const void *) "";
	cursor->end = cursor->at + len;
	cursor->bad = false;
}

const uint8_t *
tide_read_bytes(TideCursor *cursor, size_t len)
{
	const uint8_t *bytes = cursor->at;

	if (cursor->bad || (size_t) (cursor->end - cursor->at) < len)
	{
		cursor->bad = true;
		return NULL;
	}
	cursor->at += len;
	return bytes;
}

uint8_t
tide_read_u8(TideCursor *cursor)
{
	const uint8_t *bytes = tide_read_bytes(cursor, 1);

	return bytes == NULL ? 0 : *bytes;
}

uint16_t
tide_read_u16(TideCursor *cursor)
{
	const uint8_t *bytes = tide_read_bytes(cursor, 2);

	return bytes == NULL ? 0 : tide_get_u16(bytes);
}

uint32_t
tide_read_u32(TideCursor *cursor)
{
	const uint8_t *bytes = tide_read_bytes(cursor, 4);

	return bytes == NULL ? 0 : tide_get_u32(bytes);
}

uint64_t
tide_read_u64(TideCursor *cursor)
{
	const uint8_t *bytes = tide_read_bytes(cursor, 8);

	return bytes == NULL ? 0 : tide_get_u64(bytes);
}

TideStr
tide_read_str(TideCursor *cursor)
{
	size_t len = tide_read_u16(cursor);
	const uint8_t *bytes = tide_read_bytes(cursor, len);

	if (bytes != NULL && memchr(bytes, 0, len) != NULL)
		cursor->bad = true;
	return cursor->bad ? (TideStr){.data = "", .len = 0} : (TideStr){(const char *) bytes, len};
}

bool
tide_record_next(TideCursor *records, TideRecord *record)
{
	uint32_t len;
	const uint8_t *payload;

	if (records->bad || records->at == records->end)
		return false;
	record->type = (char) tide_read_u8(records);
	len = tide_read_u32(records);
	payload = tide_read_bytes(records, len);
	if (payload == NULL)
		return false;
	tide_cursor_init(&record->payload, payload, len);
	return true;
}

bool
tide_read_column(TideCursor *columns, TideColumn *column)
{
	column->key = (tide_read_u8(columns) & 1) != 0;
	column->name = tide_read_str(columns);
	column->type = tide_read_u32(columns);
	column->typmod = (int32_t) tide_read_u32(columns);
	column->type_schema = tide_read_str(columns);
	column->type_name = tide_read_str(columns);
	return !columns->bad;
}

bool
tide_read_relation(TideCursor payload, TideRelation *relation)
{
	TideColumn column;

	relation->relid = tide_read_u32(&payload);
	relation->fingerprint = tide_read_u64(&payload);
	relation->replident = (char) tide_read_u8(&payload);
	relation->schema = tide_read_str(&payload);
	relation->name = tide_read_str(&payload);
	relation->n_columns = tide_read_u16(&payload);
	relation->columns = payload;
	if (relation->n_columns > TIDE_FRAME_MAX_COLUMNS)
		return false;
	for (int i = 0; i < relation->n_columns; i++)
		tide_read_column(&payload, &column);
	return !payload.bad && payload.at == payload.end;
}

/* One column's value; false at damage. */
static inline bool
read_value(TideCursor *cursor, TideValue *value)
{
	*value = (TideValue){.kind = (char) tide_read_u8(cursor)};
	switch (value->kind)
	{
		case 'n':
		case 'u':
			return true;
		case 'b':
		case 't':
			value->len = tide_read_u32(cursor);
			value->data = tide_read_bytes(cursor, value->len);
			return value->data != NULL;
		default:
			return false;
	}
}

int
tide_read_tuple(TideCursor *cursor, TideValue *values, int max)
{
	int n = tide_read_u16(cursor);
	TideValue skipped;

	if (n > max || n > TIDE_FRAME_MAX_COLUMNS)
		cursor->bad = true;
	for (int i = 0; i < n && !cursor->bad; i++)
	{
		if (!read_value(cursor, values != NULL ? &values[i] : &skipped))
			cursor->bad = true;
	}
	return cursor->bad ? -1 : n;
}

/* ---- writing ---- */

bool
tide_write_u8(TideBuf *buf, uint8_t value)
{
	return tide_buf_append(buf, (const char *) &value, 1);
}

bool
tide_write_u16(TideBuf *buf, uint16_t value)
{
	uint8_t bytes[2];

	tide_put_u16(bytes, value);
	return tide_buf_append(buf, bytes, sizeof(bytes));
}

bool
tide_write_u32(TideBuf *buf, uint32_t value)
{
	uint8_t bytes[4];

	tide_put_u32(bytes, value);
	return tide_buf_append(buf, bytes, sizeof(bytes));
}

bool
tide_write_u64(TideBuf *buf, uint64_t value)
{
	uint8_t bytes[8];

	tide_put_u64(bytes, value);
	return tide_buf_append(buf, bytes, sizeof(bytes));
}

bool
tide_write_str(TideBuf *buf, const char *data, size_t len)
{
	if (len > UINT16_MAX)
		buf->oom = true;
	tide_write_u16(buf, (uint16_t) len);
	return tide_buf_append(buf, data, len);
}

size_t
tide_record_begin(TideBuf *buf, char type)
{
	const char header[RECORD_HEADER] = {type};
	size_t begun = buf->len;

	tide_buf_append(buf, header, sizeof(header));
	return begun;
}

void
tide_record_end(TideBuf *buf, size_t begun)
{
	if (buf->oom)
		return;
	tide_put_u32((uint8_t *) buf->data + begun + 1, (uint32_t) (buf->len - begun - RECORD_HEADER));
}
