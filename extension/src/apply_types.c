/*
 * apply_types.c
 *		Values: does a local column take what the origin sends, and how bytes become a datum.
 *
 * Owns: comparing types across servers, calling the types' input functions,
 * numbers of types inside values.  Does not own: which column is which
 * (apply_relation.c).
 *
 * Types.  The server's own types have the same numbers everywhere.  Others are named by
 * schema and name; for a domain the origin names the type behind it.  Binary arrays and
 * composites contain the numbers of their elements' types, and the input functions refuse
 * numbers that are not theirs.  So where origin and destination both have a type that is
 * not the server's own, the origin's number is replaced by ours, in place, before the
 * function sees it; if the types do not fit, the function finds out by the bytes.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/transam.h"
#include "catalog/pg_type.h"
#include "libpq/pqformat.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "parser/parse_coerce.h"
#include "port/pg_bswap.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/numeric.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"
#include "utils/typcache.h"

#include "tide_bytes.h"

#include "apply.h"
#include "pg_tide.h"
#include "compat.h"

/* Numbers below this are the same on every server; see logicalrep_write_typ() and pgoutput. */
#define IS_OWN_TYPE(oid) ((oid) >= FirstGenbkiObjectId)

/* ---- agreement ---- */

static bool
str_equals(TideStr str, const char *text)
{
	return text != NULL && strlen(text) == str.len && memcmp(text, str.data, str.len) == 0;
}

/* How the origin names a type: the one behind a domain, if it is one. */
static bool
same_named_type(const TideColumn *remote, Oid local)
{
	Oid base = getBaseType(local);
	HeapTuple tuple = SearchSysCache1(TYPEOID, ObjectIdGetDatum(base));
	Form_pg_type form;
	bool same;

	if (!HeapTupleIsValid(tuple))
		return false;
	form = (Form_pg_type) GETSTRUCT(tuple);
	same = str_equals(remote->type_name, NameStr(form->typname)) &&
		   str_equals(remote->type_schema, get_namespace_name(form->typnamespace));
	ReleaseSysCache(tuple);
	return same;
}

/* Types whose values are cut or rounded silently to a shorter modifier. */
static bool
typmod_loses(Oid type, int32 remote, int32 local)
{
	switch (type)
	{
		case VARCHAROID:
		case BPCHAROID:
		case BITOID:
		case VARBITOID:
			return false; /* too long a value is an error of its own */
		default:
			return local >= 0 && local != remote;
	}
}

/* Strings have one form, whatever their type is called. */
static Oid
family_of(Oid type)
{
	return type == VARCHAROID || type == BPCHAROID ? TEXTOID : type;
}

/* The smaller number loses nothing in the larger one: so types may be changed here first. */
static const struct
{
	Oid remote;
	Oid local;
} widenings[] = {
	{INT2OID, INT4OID},	   {INT2OID, INT8OID},	  {INT2OID, NUMERICOID},  {INT4OID, INT8OID},
	{INT4OID, NUMERICOID}, {INT8OID, NUMERICOID}, {FLOAT4OID, FLOAT8OID},
};

bool
tide_type_widens(const TideColumn *remote, Oid local, int32 typmod)
{
	for (int i = 0; i < (int) lengthof(widenings); i++)
	{
		if (remote->type_name.len == 0 && widenings[i].remote == remote->type &&
			widenings[i].local == local)
			return typmod < 0;
	}
	return false;
}

bool
tide_type_converts(const TideColumn *remote, Oid local)
{
	/* The number may be any. */
	return remote->type_name.len == 0 && get_typtype(remote->type) == TYPTYPE_BASE &&
		   can_coerce_type(1, &remote->type, &local, COERCION_ASSIGNMENT);
}

const char *
tide_type_differs(const TideColumn *remote, Oid local, int32 typmod)
{
	Oid base = getBaseType(local);

	if (tide_type_widens(remote, local, typmod))
		return NULL;
	if (remote->type_name.len > 0 ? !same_named_type(remote, local)
								  : family_of(base) != family_of(remote->type))
	{
		if (remote->type_name.len > 0)
			return psprintf("type %s here and \"%.*s.%.*s\" there", format_type_be(local),
							(int) remote->type_schema.len, remote->type_schema.data,
							(int) remote->type_name.len, remote->type_name.data);
		return psprintf("type %s here and %s there", format_type_be(local),
						format_type_extended(remote->type, -1, FORMAT_TYPE_ALLOW_INVALID));
	}
	if (typmod_loses(base, remote->typmod, typmod))
		return psprintf("type %s here and a longer or more precise one there",
						format_type_with_typemod(local, typmod));
	return NULL;
}

/* ---- numbers of types inside values ---- */

/* Could a binary value contain the number of a type that is not the server's own? */
static bool
contains_types(Oid type)
{
	Oid element;

	check_stack_depth();
	type = getBaseType(type);
	element = get_element_type(type);
	if (OidIsValid(element))
		return IS_OWN_TYPE(element) || contains_types(element);
	switch (get_typtype(type))
	{
		case TYPTYPE_COMPOSITE:
			return true;
		case TYPTYPE_RANGE:
			return contains_types(get_range_subtype(type));
		case TYPTYPE_MULTIRANGE:
			return contains_types(get_multirange_range(type));
		default:
			return false;
	}
}

/* Bytes of a value being walked; everything read is checked against end. */
typedef struct Walk
{
	char *at;
	char *end;
	bool ok; /* false: something does not fit; the type's own function will say so */
} Walk;

static char *
walk_bytes(Walk *walk, size_t len)
{
	char *bytes = walk->at;

	if (!walk->ok || (size_t) (walk->end - walk->at) < len)
	{
		walk->ok = false;
		return NULL;
	}
	walk->at += len;
	return bytes;
}

static int32
walk_int(Walk *walk)
{
	char *bytes = walk_bytes(walk, sizeof(uint32));
	uint32 value;

	if (bytes == NULL)
		return -1;
	memcpy(&value, bytes, sizeof(value));
	return (int32) pg_ntoh32(value);
}

/* Replaces a type's number by ours, if neither is the server's own. */
static void
walk_type(Walk *walk, Oid local)
{
	char *bytes = walk_bytes(walk, sizeof(uint32));
	uint32 value;

	if (bytes == NULL)
		return;
	memcpy(&value, bytes, sizeof(value));
	if (!IS_OWN_TYPE(pg_ntoh32(value)) || !IS_OWN_TYPE(local))
		return;
	value = pg_hton32(local);
	memcpy(bytes, &value, sizeof(value));
}

static void walk_value(Walk *walk, Oid type);

/* A length and so many bytes; -1 is null. */
static void
walk_item(Walk *walk, Oid type)
{
	int32 len = walk_int(walk);
	Walk item;

	if (!walk->ok || len < 0)
		return;
	item.at = walk_bytes(walk, (size_t) len);
	item.end = walk->at;
	item.ok = item.at != NULL;
	if (item.ok && contains_types(type))
		walk_value(&item, type);
	walk->ok &= item.ok;
}

static void
walk_array(Walk *walk, Oid element)
{
	int32 n_dims = walk_int(walk);

	(void) walk_int(walk); /* flags */
	walk_type(walk, element);
	if (n_dims < 0 || n_dims > MAXDIM || walk_bytes(walk, 8 * (size_t) n_dims) == NULL)
		walk->ok = false;
	while (walk->ok && walk->at < walk->end)
		walk_item(walk, element);
}

static void
walk_composite(Walk *walk, Oid type)
{
	TupleDesc desc = lookup_rowtype_tupdesc_domain(type, -1, true);
	int32 n_fields = walk_int(walk);

	for (int i = 0; desc != NULL && i < desc->natts && walk->ok; i++)
	{
		Form_pg_attribute attr = TupleDescAttr(desc, i);

		if (attr->attisdropped)
			continue;
		if (n_fields-- <= 0)
			break;
		walk_type(walk, attr->atttypid);
		walk_item(walk, attr->atttypid);
	}
	if (desc != NULL)
		ReleaseTupleDesc(desc);
}

static void
walk_range(Walk *walk, Oid subtype)
{
	(void) walk_bytes(walk, 1); /* flags */
	while (walk->ok && walk->at < walk->end)
		walk_item(walk, subtype);
}

static void
walk_multirange(Walk *walk, Oid range)
{
	int32 n = walk_int(walk);

	for (int i = 0; i < n && walk->ok; i++)
		walk_item(walk, range);
}

static void
walk_value(Walk *walk, Oid type)
{
	Oid element;

	check_stack_depth();
	CHECK_FOR_INTERRUPTS();
	type = getBaseType(type);
	element = get_element_type(type);
	if (OidIsValid(element))
		walk_array(walk, element);
	else if (get_typtype(type) == TYPTYPE_COMPOSITE)
		walk_composite(walk, type);
	else if (get_typtype(type) == TYPTYPE_RANGE)
		walk_range(walk, get_range_subtype(type));
	else if (get_typtype(type) == TYPTYPE_MULTIRANGE)
		walk_multirange(walk, get_multirange_range(type));
}

/* ---- values ---- */

/* Values of these name objects by number; numbers of another server mean nothing here. */
static bool
is_object_number(Oid type)
{
	switch (type)
	{
		case REGPROCOID:
		case REGPROCEDUREOID:
		case REGOPEROID:
		case REGOPERATOROID:
		case REGCLASSOID:
		case REGCOLLATIONOID:
		case REGTYPEOID:
		case REGROLEOID:
		case REGNAMESPACEOID:
		case REGCONFIGOID:
		case REGDICTIONARYOID:
			return true;
		default:
			return false;
	}
}

void
tide_type_prepare(TideMapColumn *column, MemoryContext context)
{
	column->context = context;
	column->base = getBaseType(column->type);
	column->nested = contains_types(column->type);
}

/* A type's functions are looked up when the first value of their kind comes: some have no binary one. */
static void
prepare_receive(TideMapColumn *column)
{
	Oid function;

	if (column->receive)
		return;
	getTypeBinaryInputInfo(column->type, &function, &column->receive_param);
	fmgr_info_cxt(function, &column->receive_fn, column->context);
	column->receive = true;
}

static void
prepare_input(TideMapColumn *column)
{
	Oid function;

	if (column->input)
		return;
	getTypeInputInfo(column->type, &function, &column->input_param);
	fmgr_info_cxt(function, &column->input_fn, column->context);
	column->input = true;
}

/*
 * The types that most columns have, without a function call: false if the value
 * is not of one, or not as it should be (then the type's function says so).
 */
static bool
read_plain(const TideMapColumn *column, const TideValue *value, Datum *datum)
{
	switch (column->type)
	{
		case INT4OID:
			if (value->len != sizeof(int32))
				return false;
			*datum = Int32GetDatum((int32) tide_get_u32(value->data));
			return true;
		case INT8OID:
			if (value->len != sizeof(int64))
				return false;
			*datum = Int64GetDatum((int64) tide_get_u64(value->data));
			return true;
		case TIMESTAMPOID:
		case TIMESTAMPTZOID:
		{
			Timestamp at;

			if (value->len != sizeof(at) || column->typmod >= 0)
				return false;
			at = (Timestamp) tide_get_u64(value->data);
			*datum = TimestampGetDatum(at);
			return IS_VALID_TIMESTAMP(at);
		}
		case TEXTOID:
		{
			char *text = pg_any_to_server((const char *) value->data, value->len, PG_UTF8);

			*datum = PointerGetDatum(cstring_to_text_with_len(
				text, text == (const char *) value->data ? value->len : strlen(text)));
			return true;
		}
		default:
			return false;
	}
}

/* The functions of nested types write into their input, and so do we. */
static char *
own_copy(const TideValue *value)
{
	char *copy = palloc(value->len + 1);

	memcpy(copy, value->data, value->len);
	copy[value->len] = '\0';
	return copy;
}

static Datum
read_binary(TideMapColumn *column, const TideValue *value)
{
	StringInfoData buf = {.len = value->len, .maxlen = value->len + 1};
	Datum datum;

	if (read_plain(column, value, &datum))
		return datum;
	prepare_receive(column);
	if (column->receive_fn.fn_addr == tide_sql_stamp_recv)
		return PointerGetDatum(tide_stamp_read(value->data, value->len));
	buf.data = own_copy(value);
	if (column->nested)
	{
		Walk walk = {.at = buf.data, .end = buf.data + buf.len, .ok = true};

		walk_value(&walk, column->type);
	}
	datum = ReceiveFunctionCall(&column->receive_fn, &buf, column->receive_param, column->typmod);
	if (buf.cursor != buf.len)
		ereport(ERROR, (errcode(ERRCODE_INVALID_BINARY_REPRESENTATION),
						errmsg("the value is longer than its type")));
	if (is_object_number(column->base) && DatumGetObjectId(datum) >= FirstNormalObjectId)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("the value of type %s names an object of the other region by its number",
						format_type_be(column->type)),
				 errhint("Store the object's name as text instead.")));
	return datum;
}

/* A number of a smaller type than ours. */
static Datum
read_widened(const TideMapColumn *column, const TideValue *value)
{
	int64 number;

	if (value->len != (uint32) get_typlen(column->widened))
		ereport(ERROR, (errcode(ERRCODE_INVALID_BINARY_REPRESENTATION),
						errmsg("the value does not have the length of its type")));
	if (column->widened == FLOAT4OID)
	{
		uint32 bits = tide_get_u32(value->data);
		float4 real;

		memcpy(&real, &bits, sizeof(real));
		return Float8GetDatum((float8) real);
	}
	if (column->widened == INT8OID)
		number = (int64) tide_get_u64(value->data);
	else if (column->widened == INT4OID)
		number = (int32) tide_get_u32(value->data);
	else
		number = (int16) tide_get_u16(value->data);
	if (column->type == NUMERICOID)
		return NumericGetDatum(int64_to_numeric(number));
	return column->type == INT8OID ? Int64GetDatum(number) : Int32GetDatum((int32) number);
}

/* A value of the type that the column had at the origin: by its text. */
static Datum
read_former(TideMapColumn *column, const TideValue *value)
{
	StringInfoData buf = {.data = own_copy(value), .len = value->len, .maxlen = value->len + 1};
	Oid receive;
	Oid param;
	Oid output;
	bool varlena;
	Datum datum;

	getTypeBinaryInputInfo(column->former, &receive, &param);
	getTypeOutputInfo(column->former, &output, &varlena);
	datum = OidReceiveFunctionCall(receive, &buf, param, -1);
	prepare_input(column);
	return InputFunctionCall(&column->input_fn, OidOutputFunctionCall(output, datum),
							 column->input_param, column->typmod);
}

Datum
tide_type_read(TideMapColumn *column, const TideValue *value)
{
	char *text;
	char *converted;

	if (value->kind == 'b' && OidIsValid(column->former))
		return read_former(column, value);

	if (value->kind == 'b' && OidIsValid(column->widened))
		return read_widened(column, value);
	if (value->kind == 'b')
		return read_binary(column, value);
	prepare_input(column);
	text = own_copy(value);
	if (strlen(text) != value->len)
		ereport(ERROR, (errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
						errmsg("the value contains a zero byte")));
	converted = pg_any_to_server(text, value->len, PG_UTF8);
	return InputFunctionCall(&column->input_fn, converted, column->input_param, column->typmod);
}
