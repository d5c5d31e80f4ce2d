/*
 * secret.c
 *		Secrets by reference: env:NAME and file:PATH.
 *
 * The form of a reference is tide_secret_parse's (common/), as the extension
 * checks it with the same function when a configuration is set.
 */
#include "secret.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mem.h"
#include "tide_conninfo.h"

bool
tide_secret_is_reference(const char *text)
{
	return tide_secret_parse(text, strlen(text), NULL, NULL);
}

void
tide_secret_wipe(void *data, size_t len)
{
	if (data != NULL)
		explicit_bzero(data, len);
}

void
tide_secret_free(char *value)
{
	if (value == NULL)
		return;
	tide_secret_wipe(value, strlen(value));
	free(value);
}

static bool
resolve_env(const char *name, const char *setting, char **value, TideError *err)
{
	const char *text = getenv(name);

	if (text == NULL)
	{
		tide_error(err, TIDE_ERR_CONFIG, "", "%s: environment variable %s is not set", setting,
				   name);
		tide_error_hint(err, "set it where the relay is started (for systemd: Environment= or "
							 "EnvironmentFile= of the unit)");
		return false;
	}
	*value = tide_strdup(text);
	return true;
}

/* The rule that libpq has for key files. */
static bool
check_file(const struct stat *st, const char *path, const char *setting, TideError *err)
{
	mode_t forbidden = st->st_uid == 0 ? (S_IWGRP | S_IXGRP | S_IRWXO) : (S_IRWXG | S_IRWXO);

	if (!S_ISREG(st->st_mode))
		return tide_error(err, TIDE_ERR_CONFIG, "", "%s: %s is not a regular file", setting, path);
	if (st->st_size > TIDE_SECRET_MAX_BYTES)
		return tide_error(err, TIDE_ERR_CONFIG, "", "%s: %s is larger than %d bytes", setting, path,
						  TIDE_SECRET_MAX_BYTES);
	if ((st->st_mode & forbidden) != 0)
	{
		tide_error(err, TIDE_ERR_CONFIG, "", "%s: others may read %s (mode %04o)", setting, path,
				   (unsigned) (st->st_mode & 07777));
		tide_error_hint(err, "chmod 0600 the file, or 0640 if root owns it");
		return false;
	}
	return true;
}

static bool
read_file(int fd, const char *path, const char *setting, char **value, TideError *err)
{
	char *buffer = tide_malloc(TIDE_SECRET_MAX_BYTES + 1);
	size_t len = 0;
	ssize_t n;

	while ((n = read(fd, buffer + len, TIDE_SECRET_MAX_BYTES + 1 - len)) > 0)
	{
		len += (size_t) n;
		if (len > TIDE_SECRET_MAX_BYTES)
			break;
	}
	if (n < 0)
		tide_error(err, TIDE_ERR_CONFIG, "", "%s: could not read %s: %s", setting, path,
				   strerror(errno));
	else if (len > TIDE_SECRET_MAX_BYTES)
		tide_error(err, TIDE_ERR_CONFIG, "", "%s: %s is larger than %d bytes", setting, path,
				   TIDE_SECRET_MAX_BYTES);
	else if (memchr(buffer, '\0', len) != NULL)
		tide_error(err, TIDE_ERR_CONFIG, "", "%s: %s contains a zero byte", setting, path);
	else
	{
		if (len > 0 && buffer[len - 1] == '\n')
			len--;
		*value = tide_malloc(len + 1);
		memcpy(*value, buffer, len);
		(*value)[len] = '\0';
	}
	tide_secret_wipe(buffer, TIDE_SECRET_MAX_BYTES + 1);
	free(buffer);
	return *value != NULL;
}

static bool
resolve_file(const char *path, const char *setting, char **value, TideError *err)
{
	/* O_NONBLOCK: a fifo put there must not hang the pipeline. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	struct stat st;
	bool ok;

	if (fd < 0)
		return tide_error(err, TIDE_ERR_CONFIG, "", "%s: could not open %s: %s", setting, path,
						  strerror(errno));
	if (fstat(fd, &st) != 0)
		ok = tide_error(err, TIDE_ERR_CONFIG, "", "%s: could not look at %s: %s", setting, path,
						strerror(errno));
	else
		ok = check_file(&st, path, setting, err) && read_file(fd, path, setting, value, err);
	close(fd);
	return ok;
}

bool
tide_secret_resolve(const char *reference, const char *setting, char **value, size_t *len,
					TideError *err)
{
	TideSecretKind kind;
	TideSpan name;
	char *name_text;
	bool ok;

	*value = NULL;
	if (!tide_secret_parse(reference, strlen(reference), &kind, &name))
	{
		/* What stands there instead may be the secret itself: it is not repeated. */
		tide_error(err, TIDE_ERR_CONFIG, "", "%s: not a reference to a secret", setting);
		tide_error_hint(err, "write env:NAME or file:/absolute/path");
		return false;
	}
	name_text = tide_printf("%.*s", (int) name.len, name.ptr);
	if (kind == TIDE_SECRET_ENV)
		ok = resolve_env(name_text, setting, value, err);
	else
		ok = resolve_file(name_text, setting, value, err);
	free(name_text);
	if (ok && len != NULL && *value != NULL)
		*len = strlen(*value);
	return ok;
}
