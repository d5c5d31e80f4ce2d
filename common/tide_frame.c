/*
 * tide_frame.c
 *		Frames: header, body, compression, checksum.
 *
 * Owns: making a frame of records, and checking one before anything in it is
 * believed.  Does not own: the records (tide_record.c).
 */
#include "tide_frame.h"

#include <string.h>

#include <zstd.h>

#include "tide_bytes.h"
#include "tide_crc.h"
#include "tide_text.h"

#define MAGIC "TDF1"
#define MAGIC_LEN 4
#define CRC_AT 16
#define ORIGIN_AT TIDE_FRAME_HEADER
#define KNOWN_FLAGS (TIDE_FRAME_ZSTD | TIDE_FRAME_CONTINUES | TIDE_FRAME_OPEN | TIDE_FRAME_SYNC)

/* ---- writing ---- */

/* The checksum of a frame, as if its crc field were zero. */
static uint32_t
frame_crc(const uint8_t *frame, size_t len)
{
	static const uint8_t zero[4];
	uint32_t crc = tide_crc32c(0, frame, CRC_AT);

	crc = tide_crc32c(crc, zero, sizeof(zero));
	return tide_crc32c(crc, frame + CRC_AT + sizeof(zero), len - CRC_AT - sizeof(zero));
}

static void
put_u32(TideBuf *buf, size_t at, uint32_t value)
{
	tide_put_u32((uint8_t *) buf->data + at, value);
}

/* Everything before the body; the fields that follow from the body are still zero. */
static bool
write_header(const TideFrameHeader *header, TideBuf *out)
{
	tide_buf_append(out, MAGIC, MAGIC_LEN);
	tide_write_u8(out, header->flags & (TIDE_FRAME_CONTINUES | TIDE_FRAME_OPEN | TIDE_FRAME_SYNC));
	tide_write_u8(out, 0);	/* level */
	tide_write_u16(out, 0); /* reserved */
	tide_write_u32(out, 0); /* raw_len */
	tide_write_u32(out, 0); /* body_len */
	tide_write_u32(out, 0); /* crc */
	tide_write_u64(out, header->start);
	tide_write_u64(out, header->end);
	tide_write_u64(out, header->system_id);
	tide_write_u32(out, header->timeline);
	tide_write_u64(out, (uint64_t) header->built_us);
	tide_write_u64(out, header->wal_end);
	tide_write_u32(out, header->n_transactions);
	tide_write_u32(out, header->n_changes);
	tide_write_u8(out, header->origin_len);
	return tide_buf_append(out, header->origin, header->origin_len);
}

/* Appends the compressed records; false, and nothing appended, if that would not be shorter. */
static bool
compress_body(const void *records, size_t len, int level, TideBuf *out)
{
	size_t n;

	if (level <= 0 || len < 2 || !tide_buf_reserve(out, len - 1))
		return false;
	n = ZSTD_compress(out->data + out->len, len - 1, records, len, level);
	if (ZSTD_isError(n))
		return false;
	out->len += n;
	return true;
}

bool
tide_frame_build(const TideFrameHeader *header, const void *records, size_t len, int level,
				 TideBuf *out)
{
	size_t body;

	tide_buf_reset(out);
	if (len > TIDE_FRAME_MAX_RAW || !tide_name_ok(header->origin, header->origin_len) ||
		!write_header(header, out))
		return false;
	body = out->len;
	if (compress_body(records, len, level, out))
	{
		out->data[4] = (char) (out->data[4] | TIDE_FRAME_ZSTD);
		out->data[5] = (char) level;
	}
	else if (!tide_buf_append(out, records, len))
		return false;
	put_u32(out, 8, (uint32_t) len);
	put_u32(out, 12, (uint32_t) (out->len - body));
	put_u32(out, CRC_AT, frame_crc((const uint8_t *) out->data, out->len));
	out->data[out->len] = '\0';
	return true;
}

/* ---- reading ---- */

/* Fields in the order of the layout; returns the checksum it claims. */
static uint32_t
read_header(TideCursor *cursor, TideFrameHeader *header)
{
	uint32_t crc;

	tide_read_bytes(cursor, MAGIC_LEN);
	header->flags = tide_read_u8(cursor);
	header->level = tide_read_u8(cursor);
	tide_read_u16(cursor);
	header->raw_len = tide_read_u32(cursor);
	header->body_len = tide_read_u32(cursor);
	crc = tide_read_u32(cursor);
	header->start = tide_read_u64(cursor);
	header->end = tide_read_u64(cursor);
	header->system_id = tide_read_u64(cursor);
	header->timeline = tide_read_u32(cursor);
	header->built_us = (int64_t) tide_read_u64(cursor);
	header->wal_end = tide_read_u64(cursor);
	header->n_transactions = tide_read_u32(cursor);
	header->n_changes = tide_read_u32(cursor);
	header->origin_len = tide_read_u8(cursor);
	header->origin = (const char *) tide_read_bytes(cursor, header->origin_len);
	return crc;
}

/* What a header must fulfil that a checksum does not promise. */
static const char *
check_header(const TideFrameHeader *header)
{
	if ((header->flags & ~KNOWN_FLAGS) != 0)
		return "the frame has flags that are not known here";
	if (header->raw_len > TIDE_FRAME_MAX_RAW)
		return "the frame's records are too long";
	if ((header->flags & TIDE_FRAME_ZSTD) == 0 && header->raw_len != header->body_len)
		return "the frame's lengths contradict each other";
	if (header->end < header->start)
		return "the frame ends before it starts";
	if ((header->flags & TIDE_FRAME_OPEN) != 0 &&
		(header->end != header->start || header->n_transactions != 0))
		return "the frame is open and yet ends a transaction";
	if (!tide_name_ok(header->origin, header->origin_len))
		return "the frame does not name its origin";
	return NULL;
}

const char *
tide_frame_open(const void *data, size_t len, TideFrameHeader *header, const uint8_t **body)
{
	TideCursor cursor;
	uint32_t crc;

	if (len < TIDE_FRAME_HEADER)
		return "the frame is shorter than its header";
	if (memcmp(data, MAGIC, MAGIC_LEN) != 0)
		return "this is not a frame, or one of another version";
	tide_cursor_init(&cursor, data, len);
	crc = read_header(&cursor, header);
	if (cursor.bad || header->body_len != (size_t) (cursor.end - cursor.at))
		return "the frame's length is not what its header says";
	if (crc != frame_crc(data, len))
		return "the frame's checksum is wrong";
	*body = cursor.at;
	return check_header(header);
}

void
tide_frame_peek(const void *data, size_t len, TideFrameHeader *header)
{
	TideCursor cursor;

	tide_cursor_init(&cursor, data, len);
	(void) read_header(&cursor, header);
}

const char *
tide_frame_unpack(const TideFrameHeader *header, const uint8_t *body, uint8_t *raw)
{
	size_t n;

	if ((header->flags & TIDE_FRAME_ZSTD) == 0)
	{
		if (header->raw_len > 0)
			memcpy(raw, body, header->raw_len);
		return NULL;
	}
	n = ZSTD_decompress(raw, header->raw_len, body, header->body_len);
	if (ZSTD_isError(n))
		return "the frame's body can't be decompressed";
	if (n != header->raw_len)
		return "the frame's body has another length than its header says";
	return NULL;
}
