/*
 * error.c
 *		The relay's one error type: filling it, and what its classes mean.
 */
#include "error.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

/*
 * Retryable means: trying the same again later may well help although nobody
 * did anything.  A pipeline that fails otherwise is shown as failed and waits
 * for a changed configuration (or is looked at again after a long pause).
 */
static const struct
{
	const char *name;
	bool retryable;
} classes[] = {
	[TIDE_ERR_NONE] = {"none", false},		   [TIDE_ERR_UNAVAILABLE] = {"unavailable", true},
	[TIDE_ERR_TIMEOUT] = {"timeout", true},	   [TIDE_ERR_THROTTLED] = {"throttled", true},
	[TIDE_ERR_AUTH] = {"auth", false},		   [TIDE_ERR_PERMISSION] = {"permission", false},
	[TIDE_ERR_CONFIG] = {"config", false},	   [TIDE_ERR_DATA] = {"data", false},
	[TIDE_ERR_STALE] = {"stale", false},	   [TIDE_ERR_STOPPED] = {"stopped", false},
	[TIDE_ERR_INTERNAL] = {"internal", false},
};

#define N_CLASSES (sizeof(classes) / sizeof(classes[0]))

/*
 * Cutting a text at its buffer's end must not leave half a UTF-8 character:
 * the message goes to the database, which refuses such bytes.
 */
static void
trim_partial_utf8(char *text, size_t size)
{
	size_t len = strlen(text);
	size_t start = len;
	unsigned char lead;
	size_t need;

	if (len + 1 < size)
		return; /* it fitted */
	while (start > 0 && ((unsigned char) text[start - 1] & 0xC0) == 0x80)
		start--;
	if (start == 0)
		return;
	lead = (unsigned char) text[start - 1];
	need = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : lead >= 0xC0 ? 2 : 1;
	if (len - (start - 1) < need)
		text[start - 1] = '\0';
}

bool
tide_error(TideError *err, TideErrorClass class, const char *code, const char *fmt, ...)
{
	va_list args;

	if (err == NULL)
		return false;

	/*
	 * The arguments may point into *err (a message that gets a prefix), so the
	 * new text is made apart.
	 */
	char message[sizeof(err->message)];

	va_start(args, fmt);
	vsnprintf(message, sizeof(message), fmt, args);
	va_end(args);
	trim_partial_utf8(message, sizeof(message));

	char code_copy[sizeof(err->code)];

	snprintf(code_copy, sizeof(code_copy), "%s", code != NULL ? code : "");

	err->class = class;
	memcpy(err->code, code_copy, sizeof(code_copy));
	memcpy(err->message, message, sizeof(message));
	err->hint[0] = '\0';
	return false;
}

void
tide_error_hint(TideError *err, const char *fmt, ...)
{
	va_list args;

	if (err == NULL)
		return;

	char hint[sizeof(err->hint)];

	va_start(args, fmt);
	vsnprintf(hint, sizeof(hint), fmt, args);
	va_end(args);
	trim_partial_utf8(hint, sizeof(hint));
	memcpy(err->hint, hint, sizeof(hint));
}

void
tide_error_clear(TideError *err)
{
	if (err == NULL)
		return;
	err->class = TIDE_ERR_NONE;
	err->code[0] = '\0';
	err->message[0] = '\0';
	err->hint[0] = '\0';
}

bool
tide_error_retryable(const TideError *err)
{
	return (size_t) err->class < N_CLASSES && classes[err->class].retryable;
}

const char *
tide_error_class_name(TideErrorClass class)
{
	return (size_t) class < N_CLASSES ? classes[class].name : "unknown";
}
