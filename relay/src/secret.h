/*
 * secret.h
 *		Secrets by reference: env:NAME and file:PATH.
 *
 * Owns: resolving a reference at the moment of use, and wiping the value
 * afterwards.  Does not own: which settings are secrets (common/'s table of
 * options).  A configuration never holds a secret itself.
 *
 * file:PATH must be a regular file of at most 64 kB.  Links are followed
 * (orchestrators mount secrets as links); what they end at must not be readable
 * by others: mode 0600 or less, or 0640 or less if root owns it, as for libpq's
 * keys.  One newline at the end is not part of the secret.
 */
#ifndef TIDE_SECRET_H
#define TIDE_SECRET_H

#include <stdbool.h>
#include <stddef.h>

#include "error.h"

#define TIDE_SECRET_MAX_BYTES (64 * 1024)

/* Does the text have the form of a reference? */
extern bool tide_secret_is_reference(const char *text);

/*
 * Resolves reference for the setting named (used in messages).  *value is
 * NUL-terminated and the caller's to give to tide_secret_free; *len may be
 * NULL.  TIDE_ERR_CONFIG if it is no reference or can't be read as required.
 * No message ever contains a secret.
 */
extern bool tide_secret_resolve(const char *reference, const char *setting, char **value,
								size_t *len, TideError *err);

/* Overwrites, then frees; NULL is fine. */
extern void tide_secret_free(char *value);

/* Overwrites memory in a way the compiler can't drop. */
extern void tide_secret_wipe(void *data, size_t len);

#endif /* TIDE_SECRET_H */
