/*
 * link_merge.c
 *		Frames of inserts from COPY's rows, for tables that have rows of others already.
 *
 * Owns: reading a row of COPY's two formats, describing the table, saying both the way
 * pgoutput would: so the capture makes the same records of them as of the
 * stream.  Does not own: frames and records (common/tide_capture.h).
 *
 * To the destination each frame is a transaction from the snapshot's position on,
 * one behind the other: the capture drops what is before where it has come.  Only
 * their inserts count (tide.copy_merge).
 */
#include <stdlib.h>
#include <string.h>

#include "link_copy.h"
#include "mem.h"
#include "queries.h"
#include "tide_capture.h"

#define FIRST_USER_TYPE 10000 /* the server's own have the same numbers everywhere */
#define BINARY_NULL UINT32_C(0xffffffff)

struct TideRowFrames
{
	const TideCopier *copier;
	const TideTable *table;
	TideCapture *capture;
	uint32_t relid;
	int n_columns;
	TideBuf relation; /* the messages that describe the table */
	size_t *ends;	  /* where each of them ends in relation */
	int n_messages;
	TideBuf message;
	TideBuf value; /* of a text row, without its escapes */
	bool begun;	   /* the transaction of the frame that is being made */
};

/* ---- saying it as pgoutput does ---- */

static void
put_name(TideBuf *out, const char *name)
{
	tide_buf_append(out, name, strlen(name) + 1);
}

static void
end_message(TideRowFrames *frames)
{
	frames->ends = tide_realloc(frames->ends, sizeof(size_t) * (size_t) (frames->n_messages + 1));
	frames->ends[frames->n_messages++] = frames->relation.len;
}

/* A type that is not the server's own. */
static void
describe_type(TideRowFrames *frames, const PGresult *res, int row)
{
	TideBuf *out = &frames->relation;

	if (tide_pg_int64(res, row, 4) < FIRST_USER_TYPE)
		return;
	tide_write_u8(out, 'Y');
	tide_write_u32(out, (uint32_t) tide_pg_int64(res, row, 4));
	put_name(out, PQgetvalue(res, row, 6));
	put_name(out, PQgetvalue(res, row, 7));
	end_message(frames);
}

static void
describe_table(TideRowFrames *frames, const PGresult *res)
{
	TideBuf *out = &frames->relation;

	frames->n_columns = PQntuples(res);
	frames->relid = (uint32_t) tide_pg_int64(res, 0, 0);
	for (int row = 0; row < frames->n_columns; row++)
		describe_type(frames, res, row);
	tide_write_u8(out, 'R');
	tide_write_u32(out, frames->relid);
	put_name(out, frames->table->schema);
	put_name(out, frames->table->name);
	tide_write_u8(out, (uint8_t) PQgetvalue(res, 0, 1)[0]);
	tide_write_u16(out, (uint16_t) frames->n_columns);
	for (int row = 0; row < frames->n_columns; row++)
	{
		tide_write_u8(out, tide_pg_bool(res, row, 3) ? 1 : 0);
		put_name(out, PQgetvalue(res, row, 2));
		tide_write_u32(out, (uint32_t) tide_pg_int64(res, row, 4));
		tide_write_u32(out, (uint32_t) tide_pg_int64(res, row, 5));
	}
	end_message(frames);
}

static bool
read_shape(TideRowFrames *frames, TideError *err)
{
	const TideTable *table = frames->table;
	const char *values[3] = {table->schema, table->name, table->columns};
	PGresult *res;

	if (!tide_pg_exec(frames->copier->there, tide_q_rows_columns, 3, values, &res, err))
		return tide_link_at_origin(frames->copier->link, err);
	if (PQntuples(res) > 0)
		describe_table(frames, res);
	PQclear(res);
	if (frames->n_columns > 0)
		return true;
	return tide_error(err, TIDE_ERR_CONFIG, "42P01", "region \"%s\": table %s.%s is gone",
					  frames->copier->link->spec.region, table->schema, table->name);
}

static bool
say(TideRowFrames *frames, const void *data, size_t len, TideError *err)
{
	const char *wrong = tide_capture_message(frames->capture, data, len);

	if (wrong == NULL)
		return true;
	return tide_error(err, TIDE_ERR_INTERNAL, "", "table %s.%s: %s", frames->table->schema,
					  frames->table->name, wrong);
}

/* A transaction for one frame, and what its rows look like. */
static bool
begin(TideRowFrames *frames, TideError *err)
{
	TideBuf *out = &frames->message;
	size_t from = 0;

	tide_buf_reset(out);
	tide_write_u8(out, 'B');
	tide_write_u64(out, tide_capture_position(frames->capture));
	tide_write_u64(out, 0); /* time: 2000, as long as nobody looks */
	tide_write_u32(out, 0);
	if (!say(frames, out->data, out->len, err))
		return false;
	for (int i = 0; i < frames->n_messages; i++)
	{
		if (!say(frames, frames->relation.data + from, frames->ends[i] - from, err))
			return false;
		from = frames->ends[i];
	}
	frames->begun = true;
	return true;
}

/* ---- COPY's rows ---- */

static bool
bad_row(const TideRowFrames *frames, TideError *err)
{
	return tide_error(err, TIDE_ERR_INTERNAL, "", "table %s.%s: a row of COPY is not understood",
					  frames->table->schema, frames->table->name);
}

static bool
add_binary(TideRowFrames *frames, const char *row, size_t len)
{
	TideBuf *out = &frames->message;
	TideCursor cursor;

	tide_cursor_init(&cursor, row, len);
	if (tide_read_u16(&cursor) != frames->n_columns)
		return false;
	for (int i = 0; i < frames->n_columns; i++)
	{
		uint32_t value_len = tide_read_u32(&cursor);
		const uint8_t *value;

		if (value_len == BINARY_NULL)
		{
			tide_write_u8(out, 'n');
			continue;
		}
		value = tide_read_bytes(&cursor, value_len);
		if (value == NULL)
			return false;
		tide_write_u8(out, 'b');
		tide_write_u32(out, value_len);
		tide_buf_append(out, value, value_len);
	}
	return !cursor.bad && cursor.at == cursor.end;
}

/* What stands behind a backslash; COPY TO writes no others. */
static char
unescape(char c)
{
	static const char from[] = "bfnrtv";
	static const char to[] = "\b\f\n\r\t\v";
	const char *found = c != '\0' ? strchr(from, c) : NULL;

	return found != NULL ? to[found - from] : c;
}

/* One field of a text row, up to a tab or the row's end; returns where that is. */
static const char *
add_field(TideRowFrames *frames, const char *at, const char *end)
{
	TideBuf *out = &frames->message;
	TideBuf *value = &frames->value;
	const char *field = at;

	tide_buf_reset(value);
	while (at < end && *at != '\t')
	{
		size_t plain = 0;

		while (at + plain < end && at[plain] != '\t' && at[plain] != '\\')
			plain++;
		tide_buf_append(value, at, plain);
		at += plain;
		if (at + 1 < end && *at == '\\')
		{
			tide_buf_append_char(value, unescape(at[1]));
			at += 2;
		}
		else if (at < end && *at == '\\')
			at++;
	}
	if (at - field == 2 && field[0] == '\\' && field[1] == 'N')
	{
		tide_write_u8(out, 'n');
		return at;
	}
	tide_write_u8(out, 't');
	tide_write_u32(out, (uint32_t) value->len);
	tide_buf_append(out, tide_buf_cstr(value), value->len);
	return at;
}

static bool
add_text(TideRowFrames *frames, const char *row, size_t len)
{
	const char *end = row + len;

	if (len > 0 && end[-1] == '\n')
		end--;
	for (int i = 0; i < frames->n_columns; i++)
	{
		row = add_field(frames, row, end);
		if (i + 1 < frames->n_columns && (row == end || *row++ != '\t'))
			return false;
	}
	return row == end;
}

bool
tide_row_frames_add(TideRowFrames *frames, const char *row, size_t len, TideError *err)
{
	TideBuf *out = &frames->message;

	if (!frames->begun && !begin(frames, err))
		return false;
	tide_buf_reset(out);
	tide_write_u8(out, 'I');
	tide_write_u32(out, frames->relid);
	tide_write_u8(out, 'N');
	tide_write_u16(out, (uint16_t) frames->n_columns);
	if (frames->table->binary ? !add_binary(frames, row, len) : !add_text(frames, row, len))
		return bad_row(frames, err);
	if (out->oom)
		tide_out_of_memory(len);
	return say(frames, out->data, out->len, err);
}

bool
tide_row_frames_make(TideRowFrames *frames, TideBuf *out, TideError *err)
{
	TideBuf *message = &frames->message;
	uint64_t position = tide_capture_position(frames->capture);
	bool made = false;

	tide_buf_reset(message);
	tide_write_u8(message, 'C');
	tide_write_u8(message, 0);
	tide_write_u64(message, position);
	tide_write_u64(message, position + 1); /* a commit has some length */
	tide_write_u64(message, 0);
	frames->begun = false;
	if (!say(frames, message->data, message->len, err))
		return false;
	if (tide_capture_frame(frames->capture, false, false, 0, tide_wall_us(), position, out,
						   &made) &&
		made)
		return true;
	return tide_error(err, TIDE_ERR_DATA, "54000", "table %s.%s: a row is too large",
					  frames->table->schema, frames->table->name);
}

/* ---- life ---- */

TideRowFrames *
tide_row_frames_new(const TideCopier *copier, const TideTable *table, TideError *err)
{
	const TideLink *link = copier->link;
	TideRowFrames *frames = tide_zalloc(sizeof(*frames));

	frames->copier = copier;
	frames->table = table;
	tide_buf_init(&frames->relation);
	tide_buf_init(&frames->message);
	tide_buf_init(&frames->value);
	frames->capture = tide_capture_new(link->spec.region, link->origin.system_id,
									   link->origin.timeline, copier->position);
	if (frames->capture == NULL)
		tide_out_of_memory(0);
	if (read_shape(frames, err))
		return frames;
	tide_row_frames_free(frames);
	return NULL;
}

void
tide_row_frames_free(TideRowFrames *frames)
{
	if (frames == NULL)
		return;
	tide_capture_free(frames->capture);
	tide_buf_free(&frames->relation);
	tide_buf_free(&frames->message);
	tide_buf_free(&frames->value);
	free(frames->ends);
	free(frames);
}
