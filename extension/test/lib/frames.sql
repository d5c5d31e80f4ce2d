/*
 * frames.sql
 *		Frames made in SQL, for tests of tide.apply that need no other server.
 *
 * Values are sent as text ('t') unless they begin with 'b:' (hexadecimal, sent as binary); NULL is null, '<same>' is
 * unchanged and not sent.  Positions follow tide.link_progress.
 */
CREATE SCHEMA f;

CREATE FUNCTION f.crc_table() RETURNS bigint[] IMMUTABLE LANGUAGE plpgsql AS $$
DECLARE
	result bigint[];
	c bigint;
BEGIN
	FOR n IN 0 .. 255 LOOP
		c := n;
		FOR k IN 1 .. 8 LOOP
			c := CASE WHEN c & 1 = 1 THEN (c >> 1) # 2197175160 ELSE c >> 1 END;
		END LOOP;
		result[n] := c;
	END LOOP;
	RETURN result;
END$$;
CREATE TABLE f.crc AS SELECT f.crc_table() AS t;

CREATE FUNCTION f.crc32c(data bytea) RETURNS bigint STABLE LANGUAGE plpgsql AS $$
DECLARE
	t bigint[] := (SELECT crc.t FROM f.crc);
	c bigint := 4294967295;
BEGIN
	FOR i IN 0 .. length(data) - 1 LOOP
		c := t[(c # get_byte(data, i)) & 255] # (c >> 8);
	END LOOP;
	RETURN c # 4294967295;
END$$;

CREATE FUNCTION f.u8(v int) RETURNS bytea IMMUTABLE LANGUAGE sql AS $$ SELECT substr(int4send(v), 4) $$;
CREATE FUNCTION f.u16(v int) RETURNS bytea IMMUTABLE LANGUAGE sql AS $$ SELECT substr(int4send(v), 3) $$;
CREATE FUNCTION f.u32(v bigint) RETURNS bytea IMMUTABLE LANGUAGE sql AS $$ SELECT substr(int8send(v), 5) $$;
CREATE FUNCTION f.str(v text) RETURNS bytea IMMUTABLE LANGUAGE sql AS $$
	SELECT f.u16(octet_length(v)) || convert_to(v, 'UTF8') $$;
CREATE FUNCTION f.rec(type text, payload bytea) RETURNS bytea IMMUTABLE LANGUAGE sql AS $$
	SELECT convert_to(type, 'UTF8') || f.u32(length(payload)) || payload $$;

/* A column: 'name type', with a leading * if it is part of the key; a type that is not the server's is named. */
CREATE FUNCTION f.col(definition text) RETURNS bytea STABLE LANGUAGE plpgsql AS $$
DECLARE
	words text[] := regexp_split_to_array(ltrim(definition, '*'), ' ');
	typ pg_type;
	named boolean;
BEGIN
	SELECT t.* INTO STRICT typ FROM pg_type t WHERE t.oid = words[2]::regtype;
	named := typ.oid >= 10000;
	RETURN f.u8(CASE WHEN definition LIKE '*%' THEN 1 ELSE 0 END) || f.str(words[1]) || f.u32(typ.oid::bigint)
		|| int4send(coalesce(words[3]::int, -1))
		|| f.str(CASE WHEN named THEN typ.typnamespace::regnamespace::text ELSE '' END)
		|| f.str(CASE WHEN named THEN typ.typname ELSE '' END);
END$$;

/* A relation; its number and fingerprint are made of what it is. */
CREATE FUNCTION f.relid(tbl text) RETURNS bigint IMMUTABLE LANGUAGE sql AS $$
	SELECT hashtext(tbl)::bigint & 2147483647 $$;
CREATE FUNCTION f.relation(tbl text, VARIADIC cols text[]) RETURNS bytea STABLE LANGUAGE sql AS $$
	SELECT f.u32(f.relid(tbl)) || int8send(hashtextextended(tbl || cols::text, 0)) || f.u8(ascii('d'))
		|| f.str('public') || f.str(tbl) || f.u16(cardinality(cols))
		|| (SELECT string_agg(f.col(c), '' ORDER BY n) FROM unnest(cols) WITH ORDINALITY u (c, n)) $$;
CREATE FUNCTION f.rel(tbl text, VARIADIC cols text[]) RETURNS bytea STABLE LANGUAGE sql AS $$
	SELECT f.rec('R', f.relation(tbl, VARIADIC cols)) $$;

CREATE FUNCTION f.value(v text) RETURNS bytea IMMUTABLE LANGUAGE sql AS $$
	SELECT CASE WHEN v IS NULL THEN f.u8(ascii('n'))
		WHEN v = '<same>' THEN f.u8(ascii('u'))
		WHEN v LIKE 'b:%' THEN f.u8(ascii('b')) || f.u32(length(decode(substr(v, 3), 'hex'))) || decode(substr(v, 3), 'hex')
		ELSE f.u8(ascii('t')) || f.u32(octet_length(v)) || convert_to(v, 'UTF8') END $$;
CREATE FUNCTION f.tuple(vals text[]) RETURNS bytea IMMUTABLE LANGUAGE sql AS $$
	SELECT f.u16(cardinality(vals)) || (SELECT string_agg(f.value(v), '' ORDER BY n) FROM unnest(vals) WITH ORDINALITY u (v, n)) $$;

CREATE FUNCTION f.ins(tbl text, VARIADIC vals text[]) RETURNS bytea IMMUTABLE LANGUAGE sql AS $$
	SELECT f.rec('I', f.u32(f.relid(tbl)) || f.tuple(vals)) $$;
CREATE FUNCTION f.upd(tbl text, VARIADIC vals text[]) RETURNS bytea IMMUTABLE LANGUAGE sql AS $$
	SELECT f.rec('U', f.u32(f.relid(tbl)) || f.u8(0) || f.tuple(vals)) $$;
CREATE FUNCTION f.move(tbl text, old text[], VARIADIC vals text[]) RETURNS bytea IMMUTABLE LANGUAGE sql AS $$
	SELECT f.rec('U', f.u32(f.relid(tbl)) || f.u8(ascii('K')) || f.tuple(old) || f.tuple(vals)) $$;
CREATE FUNCTION f.del(tbl text, VARIADIC vals text[]) RETURNS bytea IMMUTABLE LANGUAGE sql AS $$
	SELECT f.rec('D', f.u32(f.relid(tbl)) || f.u8(ascii('K')) || f.tuple(vals)) $$;
CREATE FUNCTION f.trunc(flags int, VARIADIC tbls text[]) RETURNS bytea IMMUTABLE LANGUAGE sql AS $$
	SELECT f.rec('T', f.u8(flags) || f.u32(cardinality(tbls)) || (SELECT string_agg(f.u32(f.relid(t)), '' ORDER BY n) FROM unnest(tbls) WITH ORDINALITY u (t, n))) $$;
CREATE FUNCTION f.beat(at timestamptz) RETURNS bytea IMMUTABLE LANGUAGE sql AS $$
	SELECT f.rec('H', int8send((extract(epoch FROM at) * 1000000)::bigint)) $$;
CREATE FUNCTION f.begun(commit_lsn pg_lsn) RETURNS bytea IMMUTABLE LANGUAGE sql AS $$
	SELECT f.rec('B', pg_lsn_send(commit_lsn) || int8send(1700000000000000) || f.u32(7)) $$;
CREATE FUNCTION f.done(end_lsn pg_lsn) RETURNS bytea IMMUTABLE LANGUAGE sql AS $$
	SELECT f.rec('C', pg_lsn_send(end_lsn)) $$;

/* flags: 2 continues, 4 open */
CREATE FUNCTION f.frame(first pg_lsn, last pg_lsn, records bytea, flags int DEFAULT 0, n int DEFAULT 1,
	region text DEFAULT 'us', system_id bigint DEFAULT tide._system_identifier(), timeline int DEFAULT 1)
RETURNS bytea STABLE LANGUAGE plpgsql AS $$
DECLARE
	head bytea := convert_to('TDF1', 'UTF8') || f.u8(flags) || '\x000000' || f.u32(length(records)) || f.u32(length(records));
	tail bytea := pg_lsn_send(first) || pg_lsn_send(last) || int8send(system_id) || int4send(timeline)
		|| int8send(1700000000000000) || pg_lsn_send(last) || f.u32(n) || f.u32(0) || f.u8(octet_length(region))
		|| convert_to(region, 'UTF8') || records;
BEGIN
	RETURN head || f.u32(f.crc32c(head || f.u32(0) || tail)) || tail;
END$$;

CREATE FUNCTION f.position() RETURNS pg_lsn STABLE LANGUAGE sql AS $$
	SELECT p.position FROM tide.link_progress p $$;
CREATE FUNCTION f.epoch() RETURNS bigint STABLE LANGUAGE sql AS $$
	SELECT p.epoch FROM tide.pipeline p WHERE p.name = 'link:us' $$;

/* A frame with one transaction of these records, after all that came. */
CREATE FUNCTION f.next(records bytea) RETURNS bytea STABLE LANGUAGE sql AS $$
	SELECT f.frame(f.position(), f.position() + 100, f.begun(f.position()) || records || f.done(f.position() + 100)) $$;

/* What tide.apply says, without positions: transactions, changes, kept, skipped, parked. */
CREATE FUNCTION f.apply(frame bytea, careful boolean DEFAULT false) RETURNS text LANGUAGE sql AS $$
	SELECT format('%s transactions, %s changes', transactions, changes)
		|| CASE WHEN kept > 0 THEN format(', %s kept', kept) ELSE '' END
		|| CASE WHEN skipped > 0 THEN format(', %s skipped', skipped) ELSE '' END
		|| CASE WHEN parked > 0 THEN format(', %s parked', parked) ELSE '' END
	FROM tide.apply('link:us', f.epoch(), frame, careful) $$;
CREATE FUNCTION f.send(records bytea) RETURNS text LANGUAGE sql AS $$ SELECT f.apply(f.next(records)) $$;
CREATE FUNCTION f.careful(records bytea) RETURNS text LANGUAGE sql AS $$ SELECT f.apply(f.next(records), true) $$;

/* A stamp of a region, n seconds after 2020. */
CREATE FUNCTION f.at(region text, n int) RETURNS text IMMUTABLE LANGUAGE sql AS $$
	SELECT format('%s@%s', 1577836800000000 + n * 1000000::bigint, lpad(to_hex(tide.region_id(region)), 8, '0')) $$;
CREATE FUNCTION f.of(stamp tide.stamp) RETURNS text STABLE LANGUAGE sql AS $$
	SELECT tide.stamp_region(stamp) || ' ' || extract(epoch FROM tide.stamp_time(stamp) - '2020-01-01 00:00:00+00')::int $$;

/* This database is region eu, with a link from us that copies nothing. */
CREATE FUNCTION f.link() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM tide.region_init('eu');
	PERFORM tide.region_add('us', 'host=nowhere');
	PERFORM tide.class_create('shop', '{"scope": "global"}');
	PERFORM tide.link_add('us', '{"copy": false}');
	PERFORM tide.relay_acquire('link:us', 'test');
	PERFORM tide.relay_link('link:us', f.epoch());
	PERFORM tide.relay_link_begin('link:us', f.epoch(), '0/1000', tide._system_identifier(), 1);
END$$;

CREATE FUNCTION f.try(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	result text;
	message text;
	detail text;
	hint text;
BEGIN
	EXECUTE statement INTO result;
	RETURN coalesce(result, 'ok');
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, hint = PG_EXCEPTION_HINT;
	RETURN concat_ws(E'\n', sqlstate || ' ' || message, nullif(hint, ''));
END$$;
