/*
 * config.c
 *		Checks a pipeline's configuration when it is set.
 *
 * Owns: walking the jsonb and turning a finding into an SQL error.  Does not
 * own: the keys and their rules (common/tide_options.h, which the relay reads
 * the same configuration with).
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"

#include "tide_options.h"

#include "pg_tide.h"
#include "compat.h"

PG_FUNCTION_INFO_V1(tide_sql_check_config);
PG_FUNCTION_INFO_V1(tide_sql_check_conninfo);

/* One key of the configuration; values as tide_options_check_set() wants to see them. */
typedef struct Setting
{
	const char *key;
	const char *text;
	size_t len;
	const char *json_type;
	double number;
} Setting;

typedef struct Settings
{
	Setting *items;
	int n;
} Settings;

/* What the functions of common/ write their findings into. */
typedef struct Finding
{
	TideBuf message;
	TideBuf hint;
} Finding;

static void *
buffer_resize(void *ptr, size_t size)
{
	return ptr == NULL ? palloc(size) : repalloc(ptr, size);
}

static void
finding_init(Finding *finding)
{
	tide_buf_init_with(&finding->message, buffer_resize, pfree);
	tide_buf_init_with(&finding->hint, buffer_resize, pfree);
}

static void
refuse(const Finding *finding)
{
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("%s", tide_buf_cstr(&finding->message)),
					finding->hint.len > 0 ? errhint("%s", tide_buf_cstr(&finding->hint)) : 0));
}

static void
read_value(const JsonbValue *value, Setting *setting)
{
	setting->text = "";
	setting->len = 0;
	switch (value->type)
	{
		case jbvString:
			setting->json_type = "string";
			setting->text = pnstrdup(value->val.string.val, value->val.string.len);
			setting->len = value->val.string.len;
			break;
		case jbvNumeric:
			setting->json_type = "number";
			setting->text = DatumGetCString(
				DirectFunctionCall1(numeric_out, NumericGetDatum(value->val.numeric)));
			setting->number = DatumGetFloat8(DirectFunctionCall1(
				numeric_float8_no_overflow, NumericGetDatum(value->val.numeric)));
			break;
		case jbvBool:
			setting->json_type = "boolean";
			setting->text = value->val.boolean ? "true" : "false";
			break;
		case jbvNull:
			setting->json_type = "null";
			break;
		default:
			setting->json_type = value->type == jbvBinary &&
										 JsonContainerIsArray(value->val.binary.data)
									 ? "array"
									 : "object";
			break;
	}
}

/* The top level of the object; whatever is nested is refused by its type later. */
static Settings
read_settings(Jsonb *config)
{
	Settings settings = {.items = palloc0(sizeof(Setting) * Max(JB_ROOT_COUNT(config), 1))};
	JsonbIterator *it = JsonbIteratorInit(&config->root);
	JsonbValue value;
	JsonbIteratorToken token;

	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
			settings.items[settings.n].key = pnstrdup(value.val.string.val, value.val.string.len);
		else if (token == WJB_VALUE)
			read_value(&value, &settings.items[settings.n++]);
	}
	return settings;
}

static const char *
get_setting(void *arg, const char *key)
{
	const Settings *settings = arg;

	for (int i = 0; i < settings->n; i++)
	{
		if (strcmp(settings->items[i].key, key) == 0)
			return settings->items[i].text;
	}
	return NULL;
}

static void
check_setting(TideSide side, const char *connector, const Setting *setting)
{
	const TideOption *option = tide_option_find(side, connector, setting->key);
	static const char *const kinds[] = {
		[TIDE_JSON_STRING] = "string", [TIDE_JSON_NUMBER] = "number", [TIDE_JSON_BOOL] = "boolean"};
	Finding finding;
	const char *kind;
	bool ok = true;

	finding_init(&finding);
	if (option == NULL)
	{
		tide_option_unknown(side, connector, setting->key, &finding.message, &finding.hint);
		refuse(&finding);
	}
	kind = kinds[tide_option_json_kind(option)];
	if (strcmp(kind, setting->json_type) != 0)
	{
		tide_option_wrong_type(option, setting->json_type, &finding.message, &finding.hint);
		refuse(&finding);
	}
	if (strcmp(kind, "string") == 0)
		ok = tide_option_check_string(option, setting->text, setting->len, &finding.message,
									  &finding.hint);
	else if (strcmp(kind, "number") == 0)
		ok = tide_option_check_number(option, setting->number, &finding.message, &finding.hint);
	if (!ok)
		refuse(&finding);
}

static const char *
find_connector(TideSide side, Settings *settings)
{
	const char *connector = NULL;
	Finding finding;

	for (int i = 0; i < settings->n; i++)
	{
		const Setting *setting = &settings->items[i];

		if (strcmp(setting->key, tide_connector_key(side)) == 0)
			connector = strcmp(setting->json_type, "string") == 0 ? setting->text
																  : setting->json_type;
	}
	if (connector == NULL && side == TIDE_SIDE_LINK)
		connector = tide_option_find(side, NULL, tide_connector_key(side))->default_text;
	if (connector != NULL && tide_connector_known(side, connector))
		return connector;
	finding_init(&finding);
	tide_connector_unknown(side, connector, &finding.message, &finding.hint);
	refuse(&finding);
	return NULL;
}

static Jsonb *
config_argument(FunctionCallInfo fcinfo, TideSide side)
{
	bool link = side == TIDE_SIDE_LINK;
	const char *what = link ? "options of a link" : "configuration of a pipeline";
	const char *example = link ? "{\"transport\": \"direct\"}" : "{\"sink_type\": \"nats\", ...}";
	Jsonb *config;

	if (PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("the %s must not be NULL", what),
				 errhint("Pass a JSON object, such as '%s'.", example)));
	config = PG_GETARG_JSONB_P(1);
	if (!JB_ROOT_IS_OBJECT(config))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("the %s must be a JSON object", what),
						errhint("Pass a JSON object, such as '%s'.", example)));
	return config;
}

static TideSide
side_of(const char *direction)
{
	if (strcmp(direction, "outbox") == 0)
		return TIDE_SIDE_SINK;
	return strcmp(direction, "link") == 0 ? TIDE_SIDE_LINK : TIDE_SIDE_SOURCE;
}

/* _check_config(direction text, config jsonb) */
Datum
tide_sql_check_config(PG_FUNCTION_ARGS)
{
	TideSide side = side_of(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	Settings settings = read_settings(config_argument(fcinfo, side));
	const char *connector = find_connector(side, &settings);
	Finding finding;

	for (int i = 0; i < settings.n; i++)
		check_setting(side, connector, &settings.items[i]);
	finding_init(&finding);
	if (!tide_options_check_set(side, connector, get_setting, &settings, &finding.message,
								&finding.hint))
		refuse(&finding);
	PG_RETURN_VOID();
}

/* _check_conninfo(conninfo text): a region's is held to the same rules as a pipeline's. */
Datum
tide_sql_check_conninfo(PG_FUNCTION_ARGS)
{
	const TideOption *option = tide_option_find(TIDE_SIDE_SINK, "inbox", "conninfo");
	Finding finding;
	text *value;

	if (PG_ARGISNULL(0))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("the connection string must not be NULL"),
						errhint("Pass a libpq connection string, such as 'host=... dbname=...'.")));
	value = PG_GETARG_TEXT_PP(0);
	finding_init(&finding);
	if (!tide_option_check_string(option, VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value),
								  &finding.message, &finding.hint))
		refuse(&finding);
	PG_RETURN_VOID();
}
