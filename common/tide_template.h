/*
 * tide_template.h
 *		Subject templates such as orders.{op}.us-east.
 *
 * Owns: parsing, rendering, and which subjects a template can produce.  Does
 * not own: where the values come from, or subjects' own rules (tide_subject.h).
 *
 * A rendered subject has exactly as many tokens as the template, whatever the
 * values: bytes that would change that are percent-encoded.
 */
#ifndef TIDE_TEMPLATE_H
#define TIDE_TEMPLATE_H

#include <stdbool.h>
#include <stddef.h>

#include "tide_buf.h"
#include "tide_subject.h"
#include "tide_text.h"

#define TIDE_TEMPLATE_MAX 255 /* bytes of template text */
#define TIDE_TEMPLATE_PARTS 64

typedef enum TideTemplateVar
{
	TIDE_VAR_OP,
	TIDE_VAR_ENTITY,
	TIDE_VAR_OUTBOX,
	TIDE_VAR_KEY,
	TIDE_VAR_REGION,
	TIDE_VAR_EVENT_TYPE,
	TIDE_N_VARS,
	TIDE_VAR_LITERAL = TIDE_N_VARS
} TideTemplateVar;

typedef struct TideTemplatePart
{
	TideTemplateVar var; /* TIDE_VAR_LITERAL: len bytes of text at offset */
	size_t offset;
	size_t len;
} TideTemplatePart;

typedef struct TideTemplate /* no pointers: may be copied and kept anywhere */
{
	char text[TIDE_TEMPLATE_MAX + 1];
	size_t n_parts;
	TideTemplatePart parts[TIDE_TEMPLATE_PARTS];
} TideTemplate;

typedef struct TideTemplateError
{
	size_t position;   /* byte of the template, counted from 1; 0: the whole of it */
	char message[128]; /* what is wrong, without the position */
	char hint[160];
} TideTemplateError;

/* One value per variable; absent or empty renders as "_". */
typedef struct TideTemplateValues
{
	TideSpan value[TIDE_N_VARS];
} TideTemplateValues;

extern const char *tide_template_var_name(TideTemplateVar var);

/* False with *error (may be NULL) filled if text is no template; *tpl is unusable then. */
extern bool
tide_template_parse(TideTemplate *tpl, const char *text, size_t len, TideTemplateError *error);

extern bool tide_template_uses(const TideTemplate *tpl, TideTemplateVar var);

/*
 * Appends the subject for these values.  False, with out as it was, if it would
 * be longer than TIDE_SUBJECT_MAX or memory ran out (out->oom tells which).
 */
extern bool
tide_template_render(const TideTemplate *tpl, const TideTemplateValues *values, TideBuf *out);

/*
 * Appends the narrowest NATS subject that covers everything the template can
 * render for this outbox and region (names by tide_name_ok): both are put in,
 * and each token with another variable becomes '*'.  Never '>'.
 */
extern bool tide_template_stream_subject(const TideTemplate *tpl, const char *outbox,
										 const char *region, TideBuf *out);

#endif /* TIDE_TEMPLATE_H */
