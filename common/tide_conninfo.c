/*
 * tide_conninfo.c
 *		Looks into libpq connection strings, broker URLs and secret references.
 *
 * Owns: finding secrets that stand there in clear.  Does not own: connecting,
 * or resolving references.
 *
 * Follows libpq's own reading step by step: where the two disagreed, a password
 * could hide.
 */
#include "tide_conninfo.h"

#include <string.h>

#define FILE_PATH_MAX 4095

/* libpq's settings that are secrets.  Their *file relatives are not. */
static const char *const secret_keywords[] = {
	"password", "sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key",
};

static bool
is_secret_keyword(TideSpan keyword)
{
	for (size_t i = 0; i < sizeof(secret_keywords) / sizeof(secret_keywords[0]); i++)
	{
		if (tide_ascii_equal(keyword.ptr, keyword.len, secret_keywords[i],
							 strlen(secret_keywords[i])))
			return true;
	}
	return false;
}

static bool
is_alpha(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* letter or '_', then also digits: setting names, environment variables */
static bool
is_identifier(TideSpan s)
{
	if (s.len == 0 || is_digit(s.ptr[0]))
		return false;
	for (size_t i = 0; i < s.len; i++)
	{
		if (!is_alpha(s.ptr[i]) && !is_digit(s.ptr[i]) && s.ptr[i] != '_')
			return false;
	}
	return true;
}

static const char *
skip_spaces(const char *p)
{
	while (tide_is_space(*p))
		p++;
	return p;
}

/* Moves past a value; NULL if its quote is never closed.  *empty: has it no characters? */
static const char *
skip_value(const char *p, bool *empty)
{
	bool quoted = *p == '\'';
	const char *start = quoted ? ++p : p;

	for (; *p != '\0'; p++)
	{
		if (quoted ? *p == '\'' : tide_is_space(*p))
			break;
		if (*p == '\\' && p[1] != '\0')
			p++;
	}
	*empty = p == start;
	if (!quoted)
		return p;
	return *p == '\'' ? p + 1 : NULL;
}

static TideConninfoState
scan_keywords(const char *p)
{
	TideConninfoState state = TIDE_CONNINFO_OK;

	for (p = skip_spaces(p); *p != '\0'; p = skip_spaces(p))
	{
		TideSpan keyword = {p, 0};
		bool empty;

		while (*p != '\0' && *p != '=' && !tide_is_space(*p))
			p++;
		keyword.len = (size_t) (p - keyword.ptr);
		p = skip_spaces(p);
		if (*p != '=' || !is_identifier(keyword))
			return TIDE_CONNINFO_MALFORMED;
		p = skip_value(skip_spaces(p + 1), &empty);
		if (p == NULL)
			return TIDE_CONNINFO_MALFORMED;
		if (!empty && is_secret_keyword(keyword))
			state = TIDE_CONNINFO_PASSWORD;
	}
	return state;
}

/* Decodes a parameter's name; false if malformed, or longer than any name. */
static bool
decode_name(TideSpan s, char *name, size_t size, size_t *len)
{
	*len = 0;
	for (size_t i = 0; i < s.len; i++)
	{
		char c = s.ptr[i];

		if (c == '%')
		{
			int high = i + 2 < s.len ? tide_hex_value(s.ptr[i + 1]) : -1;
			int low = i + 2 < s.len ? tide_hex_value(s.ptr[i + 2]) : -1;

			if (high < 0 || low < 0)
				return false;
			c = (char) (high << 4 | low);
			i += 2;
		}
		if (*len == size)
			return false;
		name[(*len)++] = c;
	}
	return true;
}

static TideConninfoState
scan_parameters(const char *p)
{
	TideConninfoState state = TIDE_CONNINFO_OK;

	while (*p != '\0')
	{
		TideSpan raw = {p, strcspn(p, "=&")};
		char name[64];
		TideSpan keyword = {name, 0};
		size_t value_len;

		p += raw.len;
		if (*p != '=' || !decode_name(raw, name, sizeof(name), &keyword.len) ||
			!is_identifier(keyword))
			return TIDE_CONNINFO_MALFORMED;
		value_len = strcspn(++p, "=&");
		p += value_len;
		if (*p == '=')
			return TIDE_CONNINFO_MALFORMED;
		if (*p == '&')
			p++;
		if (value_len > 0 && is_secret_keyword(keyword))
			state = TIDE_CONNINFO_PASSWORD;
	}
	return state;
}

/* Moves past host[:port],...; NULL if malformed. */
static const char *
skip_hosts(const char *p)
{
	for (;;)
	{
		if (*p == '[')
		{
			p += strcspn(p, "]");
			if (*p == '\0')
				return NULL;
			p++;
		}
		else
			p += strcspn(p, ":/?,");
		/* A port that is none may be the rest of a password with a '/' in it: never let it pass. */
		if (*p == ':')
			p += 1 + strspn(p + 1, "0123456789");
		if (*p != '\0' && strchr("/?,", *p) == NULL)
			return NULL;
		if (*p != ',')
			return p;
		p++;
	}
}

/* p is behind the scheme. */
static TideConninfoState
scan_uri(const char *p)
{
	TideConninfoState state = TIDE_CONNINFO_OK;
	const char *at = p + strcspn(p, "@/");
	TideConninfoState parameters;

	if (*at == '@')
	{
		const char *colon = memchr(p, ':', (size_t) (at - p));

		if (colon != NULL && colon + 1 < at)
			state = TIDE_CONNINFO_PASSWORD;
		p = at + 1;
	}
	p = skip_hosts(p);
	if (p == NULL)
		return TIDE_CONNINFO_MALFORMED;
	p += strcspn(p, "?");
	if (*p == '\0')
		return state;
	parameters = scan_parameters(p + 1);
	return parameters == TIDE_CONNINFO_OK ? state : parameters;
}

TideConninfoState
tide_conninfo_scan(const char *conninfo)
{
	static const char *const schemes[] = {"postgresql://", "postgres://"};

	for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++)
	{
		if (strncmp(conninfo, schemes[i], strlen(schemes[i])) == 0)
			return scan_uri(conninfo + strlen(schemes[i]));
	}
	return scan_keywords(conninfo);
}

bool
tide_conninfo_has_password(const char *conninfo)
{
	return tide_conninfo_scan(conninfo) == TIDE_CONNINFO_PASSWORD;
}

static bool
starts_with(TideSpan s, const char *prefix)
{
	size_t n = strlen(prefix);

	return s.len >= n && memcmp(s.ptr, prefix, n) == 0;
}

static bool
is_absolute_path(TideSpan s)
{
	if (s.len < 2 || s.len > FILE_PATH_MAX || s.ptr[0] != '/' || s.ptr[s.len - 1] == '/')
		return false;
	for (size_t i = 0; i < s.len; i++)
	{
		if (tide_is_control(s.ptr[i]))
			return false;
	}
	return true;
}

bool
tide_path_ok(const char *path, size_t len)
{
	return is_absolute_path((TideSpan){path, len});
}

bool
tide_secret_parse(const char *value, size_t len, TideSecretKind *kind, TideSpan *name)
{
	TideSpan s = {value, len};
	TideSpan rest;
	bool env = starts_with(s, "env:");

	if (!env && !starts_with(s, "file:"))
		return false;
	rest.ptr = value + (env ? 4 : 5);
	rest.len = len - (env ? 4 : 5);
	if (!(env ? is_identifier(rest) : is_absolute_path(rest)))
		return false;
	if (kind != NULL)
		*kind = env ? TIDE_SECRET_ENV : TIDE_SECRET_FILE;
	if (name != NULL)
		*name = rest;
	return true;
}

/* Length of the host at the beginning, brackets included; 0 if there is none. */
static size_t
host_length(TideSpan s)
{
	size_t i = 0;

	if (s.len > 0 && s.ptr[0] == '[')
	{
		i = 1;
		while (i < s.len && (tide_hex_value(s.ptr[i]) >= 0 || s.ptr[i] == ':' || s.ptr[i] == '.'))
			i++;
		return i > 2 && i < s.len && s.ptr[i] == ']' ? i + 1 : 0;
	}
	while (i < s.len && (is_alpha(s.ptr[i]) || is_digit(s.ptr[i]) || s.ptr[i] == '-' ||
						 s.ptr[i] == '.' || s.ptr[i] == '_'))
		i++;
	return i;
}

TideUrlState
tide_url_check(TideSpan url)
{
	TideSpan rest;
	size_t host;
	uint64_t port;

	if (url.len > 0 && memchr(url.ptr, '@', url.len) != NULL)
		return TIDE_URL_USERINFO;
	if (!starts_with(url, "nats://") && !starts_with(url, "tls://"))
		return TIDE_URL_SCHEME;
	host = starts_with(url, "tls://") ? 6 : 7;
	rest = (TideSpan){url.ptr + host, url.len - host};
	host = host_length(rest);
	if (host == 0)
		return TIDE_URL_MALFORMED;
	rest = (TideSpan){rest.ptr + host, rest.len - host};
	if (rest.len == 0)
		return TIDE_URL_OK;
	if (rest.ptr[0] != ':' || rest.len > 6 || !tide_parse_u64(rest.ptr + 1, rest.len - 1, &port))
		return TIDE_URL_MALFORMED;
	return port >= 1 && port <= 65535 ? TIDE_URL_OK : TIDE_URL_MALFORMED;
}

bool
tide_url_next(TideSpan *rest, TideSpan *url)
{
	const char *comma;

	if (rest->ptr == NULL)
		return false;
	comma = rest->len > 0 ? memchr(rest->ptr, ',', rest->len) : NULL;
	*url = (TideSpan){rest->ptr, comma != NULL ? (size_t) (comma - rest->ptr) : rest->len};
	if (comma != NULL)
		*rest = (TideSpan){comma + 1, rest->len - url->len - 1};
	else
		*rest = (TideSpan){NULL, 0};
	while (url->len > 0 && tide_is_space(url->ptr[0]))
		*url = (TideSpan){url->ptr + 1, url->len - 1};
	while (url->len > 0 && tide_is_space(url->ptr[url->len - 1]))
		url->len--;
	return true;
}
