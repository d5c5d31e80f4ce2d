/*
 * tide_template.c
 *		Subject templates such as orders.{op}.us-east.
 *
 * Owns: parsing, rendering, and which subjects a template can produce.  Does
 * not own: where the values come from.
 */
#include "tide_template.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define EMPTY_VALUE "_"

static const char *const var_names[TIDE_N_VARS] = {
	[TIDE_VAR_OP] = "op",	[TIDE_VAR_ENTITY] = "entity", [TIDE_VAR_OUTBOX] = "outbox",
	[TIDE_VAR_KEY] = "key", [TIDE_VAR_REGION] = "region", [TIDE_VAR_EVENT_TYPE] = "event_type",
};

#define HINT_VARS "The variables are {op}, {entity}, {outbox}, {key}, {region} and {event_type}."
#define HINT_BRACE "Braces only enclose a variable, such as {op}; they can't be part of a subject."
#define HINT_TOKEN "A subject is words separated by single dots, such as orders.{op}.us-east."
#define HINT_CHAR "Use letters, digits, '-', '_' and dots around the variables."

typedef struct Parser
{
	TideTemplate *tpl;
	size_t len;
	size_t at;	  /* next byte of tpl->text to read */
	size_t token; /* where the current token began */
	TideTemplateError *error;
} Parser;

const char *
tide_template_var_name(TideTemplateVar var)
{
	return var < TIDE_N_VARS ? var_names[var] : "literal";
}

/* position counts from 0 here; WHOLE wraps to the header's 0. */
#define WHOLE SIZE_MAX

static bool
fail(Parser *p, size_t position, const char *message, const char *hint)
{
	if (p->error != NULL)
	{
		p->error->position = position + 1;
		snprintf(p->error->message, sizeof(p->error->message), "%s", message);
		snprintf(p->error->hint, sizeof(p->error->hint), "%s", hint);
	}
	return false;
}

static bool
add_part(Parser *p, TideTemplateVar var, size_t offset, size_t len)
{
	TideTemplate *tpl = p->tpl;

	if (tpl->n_parts == TIDE_TEMPLATE_PARTS)
		return fail(p, offset, "too many parts", "Use fewer variables.");
	tpl->parts[tpl->n_parts++] = (TideTemplatePart){var, offset, len};
	return true;
}

static bool
unknown_variable(Parser *p, size_t position, const char *name, size_t len)
{
	TideTemplateError *error = p->error;

	fail(p, position, "", HINT_VARS);
	if (error != NULL)
	{
		TideBuf buf;

		tide_buf_init_fixed(&buf, error->message, sizeof(error->message));
		tide_buf_append_str(&buf, "unknown variable {");
		tide_buf_append(&buf, name, len);
		tide_buf_append_str(&buf, "}");
	}
	return false;
}

/* At a '{'. */
static bool
parse_variable(Parser *p)
{
	const char *text = p->tpl->text;
	size_t open = p->at;
	size_t name = open + 1;
	size_t len = strcspn(text + name, "{}.");

	if (text[name + len] != '}')
		return fail(p, open, "'{' without a matching '}'", HINT_BRACE);
	for (int var = 0; var < TIDE_N_VARS; var++)
	{
		if (strlen(var_names[var]) != len || memcmp(var_names[var], text + name, len) != 0)
			continue;
		p->at = name + len + 1;
		return add_part(p, (TideTemplateVar) var, open, len + 2);
	}
	return unknown_variable(p, open, text + name, len);
}

/* One byte that is not a '{'. */
static bool
check_literal(Parser *p)
{
	char c = p->tpl->text[p->at];

	if (c == '}')
		return fail(p, p->at, "'}' without a '{' before it", HINT_BRACE);
	if (c == '*' || c == '>')
		return fail(p, p->at, "wildcards can't be published to", HINT_CHAR);
	if (tide_is_space(c) || tide_is_control(c))
		return fail(p, p->at, "spaces and control characters can't be part of a subject",
					HINT_CHAR);
	if (c == '$' && p->at == 0)
		return fail(p, 0, "subjects that begin with '$' belong to the broker", HINT_CHAR);
	if (c == '.')
	{
		if (p->at == p->token)
			return fail(p, p->at, "empty word before a dot", HINT_TOKEN);
		if (p->at + 1 == p->len)
			return fail(p, p->at, "ends with a dot", HINT_TOKEN);
		p->token = p->at + 1;
	}
	return true;
}

/* A run of literal bytes, dots included. */
static bool
parse_literal(Parser *p)
{
	size_t start = p->at;

	while (p->at < p->len && p->tpl->text[p->at] != '{')
	{
		if (!check_literal(p))
			return false;
		p->at++;
	}
	return add_part(p, TIDE_VAR_LITERAL, start, p->at - start);
}

bool
tide_template_parse(TideTemplate *tpl, const char *text, size_t len, TideTemplateError *error)
{
	Parser p = {.tpl = tpl, .len = len, .error = error};

	tpl->n_parts = 0;
	if (len == 0)
		return fail(&p, WHOLE, "is empty", HINT_TOKEN);
	if (len > TIDE_TEMPLATE_MAX)
		return fail(&p, WHOLE, "is longer than 255 bytes", "Use a shorter template.");
	if (!tide_utf8_valid(text, len))
		return fail(&p, WHOLE, "is not valid UTF-8", HINT_CHAR);
	memcpy(tpl->text, text, len);
	tpl->text[len] = '\0';
	while (p.at < len)
	{
		if (!(tpl->text[p.at] == '{' ? parse_variable(&p) : parse_literal(&p)))
			return false;
	}
	return true;
}

bool
tide_template_uses(const TideTemplate *tpl, TideTemplateVar var)
{
	for (size_t i = 0; i < tpl->n_parts; i++)
	{
		if (tpl->parts[i].var == var)
			return true;
	}
	return false;
}

/* May these bytes (one UTF-8 sequence, or one stray byte) not stand in a token as they are? */
static bool
must_encode(char c, size_t sequence, bool first)
{
	if (sequence == 0 || tide_is_space(c) || tide_is_control(c))
		return true;
	if (c == '.' || c == '*' || c == '>' || c == '%')
		return true;
	return first && c == '$'; /* a value must not turn the subject into one of the broker's own */
}

static void
append_value(TideBuf *out, TideSpan value, bool first)
{
	if (value.ptr == NULL || value.len == 0)
		tide_buf_append_str(out, EMPTY_VALUE);
	/* Past the limit the rest doesn't matter: the subject is too long already. */
	for (size_t i = 0; value.ptr != NULL && i < value.len && i <= TIDE_SUBJECT_MAX;)
	{
		size_t sequence = tide_utf8_sequence(value.ptr + i, value.len - i);

		if (must_encode(value.ptr[i], sequence, first && i == 0))
		{
			tide_percent_append(out, (unsigned char) value.ptr[i]);
			i++;
			continue;
		}
		tide_buf_append(out, value.ptr + i, sequence);
		i += sequence;
	}
}

bool
tide_template_render(const TideTemplate *tpl, const TideTemplateValues *values, TideBuf *out)
{
	size_t start = out->len;

	for (size_t i = 0; i < tpl->n_parts; i++)
	{
		const TideTemplatePart *part = &tpl->parts[i];

		if (part->var == TIDE_VAR_LITERAL)
			tide_buf_append(out, tpl->text + part->offset, part->len);
		else
			append_value(out, values->value[part->var], out->len == start);
	}
	if (!out->oom && out->len - start <= TIDE_SUBJECT_MAX)
		return true;
	out->len = start;
	if (out->data != NULL)
		out->data[start] = '\0';
	return false;
}

/* Where the token that is being built begins, and whether it holds a variable still open. */
typedef struct OpenToken
{
	size_t start;
	bool variable;
} OpenToken;

/* Ends the token: one that can vary becomes '*'. */
static void
close_token(TideBuf *out, OpenToken *token)
{
	if (token->variable && !out->oom)
	{
		out->len = token->start;
		tide_buf_append_char(out, '*');
	}
	token->variable = false;
}

static void
append_tokens(TideBuf *out, OpenToken *token, const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++)
	{
		if (text[i] == '.')
			close_token(out, token);
		tide_buf_append_char(out, text[i]);
		if (text[i] == '.')
			token->start = out->len;
	}
}

bool
tide_template_stream_subject(const TideTemplate *tpl, const char *outbox, const char *region,
							 TideBuf *out)
{
	size_t start = out->len;
	OpenToken token = {.start = start};

	for (size_t i = 0; i < tpl->n_parts; i++)
	{
		const TideTemplatePart *part = &tpl->parts[i];

		if (part->var == TIDE_VAR_LITERAL)
			append_tokens(out, &token, tpl->text + part->offset, part->len);
		else if (part->var == TIDE_VAR_OUTBOX)
			append_value(out, (TideSpan){outbox, strlen(outbox)}, out->len == start);
		else if (part->var == TIDE_VAR_REGION)
			append_value(out, (TideSpan){region, strlen(region)}, out->len == start);
		else
			token.variable = true;
	}
	close_token(out, &token);
	return !out->oom;
}
