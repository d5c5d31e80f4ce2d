/*
 * stamp.c
 *		The type tide.stamp: the version of a replicated row.
 *
 * Owns: its forms (text, binary, on disk) and its order, as SQL knows them.  Does
 * not own: what a stamp means (common/tide_stamp.h), who sets it (stamp_row.c).
 *
 * On disk and on the wire a stamp is the encoding of tide_stamp.h, so memcmp is
 * the order.  Bytes after it are reserved: a server that does not know what they mean keeps
 * them, writes them behind a '+' in hexadecimal, and compares them last.
 */
#include "postgres.h"

#include "fmgr.h"
#include "libpq/pqformat.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "tide_stamp.h"
#include "tide_text.h"

#include "pg_tide.h"
#include "compat.h"

#define MAX_RESERVED 4096 /* protects a reader; nothing needs more */

PG_FUNCTION_INFO_V1(tide_sql_stamp_in);
PG_FUNCTION_INFO_V1(tide_sql_stamp_out);
PG_FUNCTION_INFO_V1(tide_sql_stamp_recv);
PG_FUNCTION_INFO_V1(tide_sql_stamp_send);
PG_FUNCTION_INFO_V1(tide_sql_stamp_cmp);
PG_FUNCTION_INFO_V1(tide_sql_stamp_lt);
PG_FUNCTION_INFO_V1(tide_sql_stamp_le);
PG_FUNCTION_INFO_V1(tide_sql_stamp_eq);
PG_FUNCTION_INFO_V1(tide_sql_stamp_ne);
PG_FUNCTION_INFO_V1(tide_sql_stamp_ge);
PG_FUNCTION_INFO_V1(tide_sql_stamp_gt);
PG_FUNCTION_INFO_V1(tide_sql_stamp_origin);
PG_FUNCTION_INFO_V1(tide_sql_stamp_time);
PG_FUNCTION_INFO_V1(tide_sql_region_id);

static bytea *
new_stamp(TideStamp stamp, size_t reserved)
{
	bytea *result = palloc(VARHDRSZ + TIDE_STAMP_LEN + reserved);

	SET_VARSIZE(result, VARHDRSZ + TIDE_STAMP_LEN + reserved);
	tide_stamp_encode(stamp, (uint8_t *) VARDATA(result));
	return result;
}

TideStamp
tide_stamp_of(Datum datum)
{
	bytea *value = DatumGetByteaPP(datum);
	TideStamp stamp;

	if (!tide_stamp_decode((const uint8_t *) VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value), &stamp))
		ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED), errmsg("damaged value of tide.stamp")));
	return stamp;
}

static void
bad_text(const char *text)
{
	ereport(ERROR, (errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
					errmsg("invalid input syntax for type tide.stamp: \"%s\"", text),
					errhint("A stamp is \"<clock>@<region>\": microseconds since 1970, and the "
							"region's number as 8 hexadecimal digits.")));
}

static void
read_reserved(const char *text, const char *digits, size_t len, char *out)
{
	for (size_t i = 0; i < len; i++)
	{
		int high = tide_hex_value(digits[2 * i]);
		int low = tide_hex_value(digits[2 * i + 1]);

		if (high < 0 || low < 0)
			bad_text(text);
		out[i] = (char) (high << 4 | low);
	}
}

Datum
tide_sql_stamp_in(PG_FUNCTION_ARGS)
{
	const char *text = PG_GETARG_CSTRING(0);
	const char *plus = strchr(text, '+');
	size_t len = plus != NULL ? (size_t) (plus - text) : strlen(text);
	size_t digits = plus != NULL ? strlen(plus + 1) : 0;
	TideStamp stamp;
	bytea *result;

	if (!tide_stamp_parse(text, len, &stamp) || (plus != NULL && digits == 0) || digits % 2 != 0 ||
		digits > 2 * MAX_RESERVED)
		bad_text(text);
	result = new_stamp(stamp, digits / 2);
	if (plus != NULL)
		read_reserved(text, plus + 1, digits / 2, VARDATA(result) + TIDE_STAMP_LEN);
	PG_RETURN_BYTEA_P(result);
}

Datum
tide_sql_stamp_out(PG_FUNCTION_ARGS)
{
	bytea *value = PG_GETARG_BYTEA_PP(0);
	size_t reserved = VARSIZE_ANY_EXHDR(value) - TIDE_STAMP_LEN;
	char buf[TIDE_STAMP_TEXT];
	char *text;
	size_t len;

	tide_stamp_format(tide_stamp_of(PointerGetDatum(value)), buf);
	if (reserved == 0)
		PG_RETURN_CSTRING(pstrdup(buf));
	len = strlen(buf);
	text = palloc(len + 1 + 2 * reserved + 1);
	memcpy(text, buf, len);
	text[len++] = '+';
	len += hex_encode(VARDATA_ANY(value) + TIDE_STAMP_LEN, reserved, text + len);
	text[len] = '\0';
	PG_RETURN_CSTRING(text);
}

bytea *
tide_stamp_read(const uint8 *data, size_t len)
{
	TideStamp stamp;
	bytea *result;

	if (!tide_stamp_decode(data, len, &stamp) || len > TIDE_STAMP_LEN + MAX_RESERVED)
		ereport(ERROR, (errcode(ERRCODE_INVALID_BINARY_REPRESENTATION),
						errmsg("invalid binary value of type tide.stamp")));
	result = new_stamp(stamp, len - TIDE_STAMP_LEN);
	memcpy(VARDATA(result), data, len);
	return result;
}

Datum
tide_sql_stamp_recv(PG_FUNCTION_ARGS)
{
	StringInfo buf = (StringInfo) PG_GETARG_POINTER(0);
	int len = buf->len - buf->cursor;

	PG_RETURN_BYTEA_P(tide_stamp_read((const uint8 *) pq_getmsgbytes(buf, len), len));
}

Datum
tide_sql_stamp_send(PG_FUNCTION_ARGS)
{
	PG_RETURN_BYTEA_P(PG_GETARG_BYTEA_P_COPY(0));
}

static int
compare(FunctionCallInfo fcinfo)
{
	bytea *a = PG_GETARG_BYTEA_PP(0);
	bytea *b = PG_GETARG_BYTEA_PP(1);
	size_t a_len = VARSIZE_ANY_EXHDR(a);
	size_t b_len = VARSIZE_ANY_EXHDR(b);
	int order = memcmp(VARDATA_ANY(a), VARDATA_ANY(b), Min(a_len, b_len));

	if (order == 0)
		order = (a_len > b_len) - (a_len < b_len);
	PG_FREE_IF_COPY(a, 0);
	PG_FREE_IF_COPY(b, 1);
	return order;
}

Datum
tide_sql_stamp_cmp(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT32(compare(fcinfo));
}

Datum
tide_sql_stamp_lt(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(compare(fcinfo) < 0);
}

Datum
tide_sql_stamp_le(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(compare(fcinfo) <= 0);
}

Datum
tide_sql_stamp_eq(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(compare(fcinfo) == 0);
}

Datum
tide_sql_stamp_ne(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(compare(fcinfo) != 0);
}

Datum
tide_sql_stamp_ge(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(compare(fcinfo) >= 0);
}

Datum
tide_sql_stamp_gt(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(compare(fcinfo) > 0);
}

/* The writing region's number: unsigned, so wider in SQL. */
Datum
tide_sql_stamp_origin(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64((int64) tide_stamp_of(PG_GETARG_DATUM(0)).origin);
}

/* The clock as a time.  A counter that ran past what the server calls a time is 'infinity'. */
Datum
tide_sql_stamp_time(PG_FUNCTION_ARGS)
{
	TimestampTz at = tide_stamp_of(PG_GETARG_DATUM(0)).clock - TIDE_EPOCH_OFFSET_US;

	PG_RETURN_TIMESTAMPTZ(IS_VALID_TIMESTAMP(at) ? at : DT_NOEND);
}

Datum
tide_sql_region_id(PG_FUNCTION_ARGS)
{
	text *name = PG_GETARG_TEXT_PP(0);

	PG_RETURN_INT64((int64) tide_region_id(VARDATA_ANY(name), VARSIZE_ANY_EXHDR(name)));
}
