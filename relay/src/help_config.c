/*
 * help_config.c
 *		"pg_tide help config": every key that a pipeline's or link's configuration can have.
 *
 * Owns: how the table of options looks to a reader.  Does not own: the table
 * (common/tide_options.c).
 */
#include "help_config.h"

#include <inttypes.h>

#include "tide_options.h"

static const char *const type_names[] = {
	[TIDE_OPT_STRING] = "string",
	[TIDE_OPT_INT] = "integer",
	[TIDE_OPT_BOOL] = "boolean",
	[TIDE_OPT_SECONDS] = "seconds",
	[TIDE_OPT_CONNECTOR] = "connector",
	[TIDE_OPT_URLS] = "URLs, comma list",
	[TIDE_OPT_SUBJECT] = "subject",
	[TIDE_OPT_FILTER] = "subject, wildcards allowed",
	[TIDE_OPT_TEMPLATE] = "template",
	[TIDE_OPT_NATS_NAME] = "NATS name",
	[TIDE_OPT_NAME] = "name",
	[TIDE_OPT_CONNINFO] = "libpq connection string or secret reference",
	[TIDE_OPT_SECRET] = "secret reference",
	[TIDE_OPT_FILE] = "absolute path",
	[TIDE_OPT_RESYNC] = "`auto` or `manual`",
};

static const struct
{
	TideSide side;
	const char *connector;
	const char *title;
} sections[] = {
	{TIDE_SIDE_SINK, "nats", "`relay_set_outbox` with `\"sink_type\": \"nats\"`"},
	{TIDE_SIDE_SINK, "inbox", "`relay_set_outbox` with `\"sink_type\": \"inbox\"`"},
	{TIDE_SIDE_SINK, "stdout", "`relay_set_outbox` with `\"sink_type\": \"stdout\"`"},
	{TIDE_SIDE_SOURCE, "nats", "`relay_set_inbox` with `\"source_type\": \"nats\"`"},
	{TIDE_SIDE_LINK, "direct", "`link_add` with `\"transport\": \"direct\"`"},
	{TIDE_SIDE_LINK, "nats", "`link_add` with `\"transport\": \"nats\"`"},
};

static void
print_limits(FILE *out, const TideOption *option)
{
	if (option->type != TIDE_OPT_INT && option->type != TIDE_OPT_SECONDS)
		return;
	fprintf(out, ", %" PRId64 " to %" PRId64, option->min, option->max);
}

static void
print_key(FILE *out, const TideOption *option)
{
	fprintf(out, "| `%s`%s | %s", option->key, option->required ? " (required)" : "",
			type_names[option->type]);
	print_limits(out, option);
	if (option->default_text != NULL)
		fprintf(out, " | `%s`", option->default_text);
	else
		fputs(" | ", out);
	fprintf(out, " | %s |\n", option->help);
}

void
tide_print_config_help(FILE *out)
{
	fputs(
		"# Configuration keys of pipelines and links\n\n"
		"Made by `pg_tide help config`. An unknown key, a wrong type or a secret in clear is refused when\n"
		"the pipeline or link is set, naming the key. A secret reference is `env:NAME` or `file:/path`, resolved by the relay.\n"
		"Templates know `{op}` `{entity}` `{outbox}` `{key}` `{region}` `{event_type}`.\n",
		out);
	for (size_t i = 0; i < sizeof(sections) / sizeof(sections[0]); i++)
	{
		const TideOption *option = NULL;

		fprintf(out, "\n## %s\n\n| key | type | default | what it is |\n|---|---|---|---|\n",
				sections[i].title);
		while ((option = tide_option_next(sections[i].side, sections[i].connector, option)) != NULL)
			print_key(out, option);
	}
}
