/*
 * nats_nkey.h
 *		Logging in to NATS with an nkey seed that is held in memory.
 *
 * Owns: finding the public key of a seed.  libnats signs with a seed but wants
 * to be told the public key, and reads seeds from files only; ours may come
 * from the environment.  Does not own: resolving the secret.
 */
#ifndef TIDE_NATS_NKEY_H
#define TIDE_NATS_NKEY_H

#include <stdbool.h>

#define TIDE_NKEY_PUBLIC_SIZE 57 /* 56 characters and NUL */

/* False if seed is not a user's seed (58 characters, SU...). */
extern bool tide_nkey_public(const char *seed, char public_key[TIDE_NKEY_PUBLIC_SIZE]);

#endif /* TIDE_NATS_NKEY_H */
