/*
 * apply_key.c
 *		A change's key as text, by which what is parked is found again.
 *
 * Owns: making that text, taking an update that changes the key apart.  Does not
 * own: what is parked (apply_park.c).
 *
 * The text must come out the same in every session, so settings that types
 * look at are fixed while it is made.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "apply.h"
#include "pg_tide.h"
#include "compat.h"

static const char *const text_settings[][2] = {
	{"datestyle", "ISO, YMD"},	 {"intervalstyle", "postgres"}, {"timezone", "UTC"},
	{"extra_float_digits", "1"}, {"bytea_output", "hex"},		{"lc_monetary", "C"},
};

static char *
value_text(TideMapColumn *column, const TideValue *value)
{
	Oid output;
	bool varlena;

	if (value->kind == 'n' || value->kind == 'u')
		return NULL;
	getTypeOutputInfo(column->type, &output, &varlena);
	return OidOutputFunctionCall(output, tide_type_read(column, value));
}

/* As in a row's text form, but always quoted: one text for one key. */
static void
append_quoted(StringInfo out, const char *text)
{
	appendStringInfoChar(out, '"');
	for (const char *c = text; *c != '\0'; c++)
	{
		if (*c == '"' || *c == '\\')
			appendStringInfoChar(out, *c);
		appendStringInfoChar(out, *c);
	}
	appendStringInfoChar(out, '"');
}

/* The key in values; what was not sent is in fallback, if there is one. */
static char *
key_text(TideMap *map, const TideValue *values, const TideValue *fallback)
{
	StringInfoData out;

	initStringInfo(&out);
	for (int i = 0; i < map->n_keys; i++)
	{
		int n = tide_map_source(map, map->keys[i]);
		const TideValue *value = values[n].kind == 'u' && fallback != NULL ? &fallback[n]
																		   : &values[n];
		char *text = value_text(&map->columns[n], value);

		if (map->n_keys == 1)
			return text;
		appendStringInfoChar(&out, i == 0 ? '(' : ',');
		if (text != NULL)
			append_quoted(&out, text);
	}
	appendStringInfoChar(&out, ')');
	return out.data;
}

static TideValue *
read_values(const TideMap *map, TideCursor *payload)
{
	TideValue *values = palloc(sizeof(TideValue) * Max(map->n_columns, 1));

	if (tide_read_tuple(payload, values, map->n_columns) != map->n_columns)
		tide_apply_malformed("a row");
	return values;
}

static void
find_keys(TideMap *map, char type, TideCursor payload, TideKeys *keys)
{
	char kind = type == 'I' ? 0 : (char) tide_read_u8(&payload);
	TideValue *old = kind == 0 ? NULL : read_values(map, &payload);

	if (type == 'D' && old == NULL)
		tide_apply_malformed("a delete");
	if (type == 'D')
		keys->key = key_text(map, old, NULL);
	else
		keys->key = key_text(map, read_values(map, &payload), old);
	if (type == 'U' && old != NULL)
		keys->old_key = key_text(map, old, NULL);
	keys->moved = keys->old_key != NULL && keys->key != NULL &&
				  strcmp(keys->old_key, keys->key) != 0;
}

void
tide_row_keys(TideApply *apply, TideTarget *target, char type, TideCursor payload, TideKeys *keys)
{
	MemoryContext old;
	int guc_level;

	if (target->map->n_keys == 0)
	{
		/* Rows without a key follow each other in no order: each waits for itself alone. */
		old = MemoryContextSwitchTo(apply->context);
		keys->key = psprintf("row %d of %X/%X", (int) apply->counts.parked + 1,
							 LSN_FORMAT_ARGS(apply->commit_lsn));
		MemoryContextSwitchTo(old);
		return;
	}
	old = MemoryContextSwitchTo(apply->row_context);
	guc_level = NewGUCNestLevel();
	for (int i = 0; i < (int) lengthof(text_settings); i++)
		(void) set_config_option(text_settings[i][0], text_settings[i][1], PGC_USERSET,
								 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	find_keys(target->map, type, payload, keys);
	AtEOXact_GUC(false, guc_level);
	MemoryContextSwitchTo(old);
	if (keys->key != NULL)
		keys->key = MemoryContextStrdup(apply->context, keys->key);
	if (keys->old_key != NULL)
		keys->old_key = MemoryContextStrdup(apply->context, keys->old_key);
	MemoryContextReset(apply->row_context);
}

/* A change made of the relation's number and some bytes of another. */
static TideChange
make_change(char type, const TideChange *of, const uint8_t *bytes, const uint8_t *end)
{
	TideChange change = {.type = type, .relid = of->relid};
	size_t relid_len = of->payload.at - of->record.at;
	size_t len = end - bytes;
	uint8_t *record = palloc(relid_len + len);

	memcpy(record, of->record.at, relid_len);
	memcpy(record + relid_len, bytes, len);
	tide_cursor_init(&change.record, record, relid_len + len);
	tide_cursor_init(&change.payload, record + relid_len, len);
	return change;
}

void
tide_row_split(TideApply *apply, const TideChange *update, int n_columns, TideChange parts[2])
{
	MemoryContext old = MemoryContextSwitchTo(apply->context);
	TideCursor cursor = update->payload;
	const uint8_t *begin = cursor.at;

	(void) tide_read_u8(&cursor);
	if (tide_read_tuple(&cursor, NULL, n_columns) != n_columns)
		tide_apply_malformed("a row");
	parts[0] = make_change('D', update, begin, cursor.at);
	parts[1] = make_change('I', update, cursor.at, cursor.end);
	MemoryContextSwitchTo(old);
}
