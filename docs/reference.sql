-- reference.sql: makes docs/reference.md from the extension's catalog:
--   psql -XAtq -f docs/reference.sql > docs/reference.md
SET search_path = pg_catalog;
\pset format unaligned
\pset tuples_only on
SELECT E'# SQL reference\n\nMade from the catalog by docs/reference.sql. Functions are listed with the roles that may call them; members of a\nrole may, too. What relays call is described in [ARCHITECTURE.md](../ARCHITECTURE.md).\n\n## Views\n\n| view | shows |\n|---|---|';
SELECT format('| `tide.%s` | %s |', c.relname, obj_description(c.oid, 'pg_class'))
FROM pg_class c
WHERE c.relnamespace = 'tide'::regnamespace AND c.relkind = 'v' AND obj_description(c.oid, 'pg_class') IS NOT NULL
ORDER BY c.relname COLLATE "C";
SELECT E'\nAn outbox named `x` shows its events in the view `tide.x_outbox` (if that is over 63 bytes: `tide.outbox_<id>_events`); an inbox named `x` is the table `tide.x_inbox`.\n\n## Functions\n\n| function | does | who may |\n|---|---|---|';
SELECT format('| `%s(%s)`%s | %s | %s |', p.proname,
			  pg_get_function_arguments(p.oid),
			  CASE WHEN pg_get_function_result(p.oid) = 'void' THEN '' ELSE ' → `' || pg_get_function_result(p.oid) || '`' END,
			  obj_description(p.oid, 'pg_proc'), g.grantees)
FROM pg_proc p,
	 LATERAL (SELECT string_agg(replace(a.grantee::regrole::text, 'tide_', ''), ', ' ORDER BY a.grantee::regrole::text COLLATE "C") AS grantees,
					 bool_or(a.grantee::regrole::text IN ('tide_admin', 'tide_publisher', 'tide_reader')) AS for_people
			  FROM aclexplode(p.proacl) a
			  WHERE a.grantee::regrole::text LIKE 'tide\_%') g
WHERE p.pronamespace = 'tide'::regnamespace AND p.proname !~ '^_' AND p.prokind = 'f'
	AND (g.for_people OR p.proname LIKE 'inbox\_claim' OR p.proname LIKE 'inbox\_mark%' OR p.proname = 'inbox_release')
ORDER BY p.proname COLLATE "C", p.pronargs DESC, pg_get_function_arguments(p.oid) COLLATE "C";
