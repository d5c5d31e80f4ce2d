/*
 * tide_subject.c
 *		NATS subjects: validity and the algebra of wildcards.
 *
 * Owns: what '.', '*' and '>' mean.  Does not own: templates or streams.
 */
#include "tide_subject.h"

#include <string.h>

#include "tide_text.h"

/* Cuts the next token off *rest (NULL: none left). */
static bool
next_token(const char **rest, TideSpan *token)
{
	const char *dot;

	if (*rest == NULL)
		return false;
	dot = strchr(*rest, '.');
	token->ptr = *rest;
	token->len = dot != NULL ? (size_t) (dot - *rest) : strlen(*rest);
	*rest = dot != NULL ? dot + 1 : NULL;
	return true;
}

static bool
is_token(TideSpan token, char wildcard)
{
	return token.len == 1 && token.ptr[0] == wildcard;
}

static bool
same_token(TideSpan a, TideSpan b)
{
	return a.len == b.len && memcmp(a.ptr, b.ptr, a.len) == 0;
}

static bool
token_valid(TideSpan token, bool last, bool allow_wildcards)
{
	if (token.len == 0)
		return false;
	if (is_token(token, '*'))
		return allow_wildcards;
	if (is_token(token, '>'))
		return allow_wildcards && last;
	for (size_t i = 0; i < token.len; i++)
	{
		char c = token.ptr[i];

		if (c == '*' || c == '>' || tide_is_space(c) || tide_is_control(c))
			return false;
	}
	return true;
}

bool
tide_subject_valid(const char *subject, bool allow_wildcards)
{
	size_t len = strlen(subject);
	const char *rest = subject;
	TideSpan token;

	if (len == 0 || len > TIDE_SUBJECT_MAX || !tide_utf8_valid(subject, len))
		return false;
	while (next_token(&rest, &token))
	{
		if (!token_valid(token, rest == NULL, allow_wildcards))
			return false;
	}
	return true;
}

/* A subject without wildcards is a pattern that matches itself only. */
bool
tide_subject_matches(const char *pattern, const char *subject)
{
	return tide_subject_covers(pattern, subject);
}

bool
tide_subject_covers(const char *wider, const char *narrower)
{
	TideSpan w;
	TideSpan n;

	while (next_token(&wider, &w))
	{
		if (!next_token(&narrower, &n))
			return false;
		if (is_token(w, '>'))
			return true; /* one token or more, whatever they are */
		if (is_token(n, '>'))
			return false; /* any number of tokens, but wider ends somewhere */
		if (!is_token(w, '*') && !same_token(w, n))
			return false;
	}
	return narrower == NULL;
}

bool
tide_subject_overlaps(const char *a, const char *b)
{
	TideSpan ta;
	TideSpan tb;

	while (next_token(&a, &ta))
	{
		if (!next_token(&b, &tb))
			return false;
		if (is_token(ta, '>') || is_token(tb, '>'))
			return true;
		if (!is_token(ta, '*') && !is_token(tb, '*') && !same_token(ta, tb))
			return false;
	}
	return b == NULL;
}
