# Who may do what: the relay's role, publishers, readers, everybody else, and handlers that try to be more than they are.

use strict;
use warnings;

use Test::More;

use PgTide::Duo;
use PgTide::Test qw(wait_until);

my $duo = PgTide::Duo->new;

sub allowed
{
	my ($role, $sql, $name) = @_;
	return is($duo->error_of('us', $sql, $role), '', "$role: $name");
}

sub denied
{
	my ($role, $sql, $name) = @_;
	return like($duo->error_of('us', $sql, $role), qr/ERROR:  42501/, "$role: $name: denied");
}

sub test_relay_role
{
	is($duo->sql('us', q{SELECT rolsuper, rolcreaterole, rolbypassrls, rolreplication FROM pg_roles WHERE rolname = 'relay'}),
		'f|f|f|f', 'the relay\'s role is an ordinary one');
	is($duo->sql('us', q{SELECT string_agg(roleid::regrole::text, ',') FROM pg_auth_members WHERE member = 'relay'::regrole}),
		'tide_relay', '... a member of tide_relay and of nothing else');
	$duo->sql('us', q{SELECT tide.outbox_create('orders', '1 second'), tide.inbox_create('back')});
	$duo->sql('eu', q{SELECT tide.inbox_create('orders')});
	$duo->outbox_to_nats('us', 'orders-out', 'orders', stream => 'ORDERS', subject_template => 'orders.{op}');
	$duo->inbox_from_nats('eu', 'orders-in', 'orders', stream => 'ORDERS', subject => 'orders.*');
	$duo->sql('eu', q{SELECT tide.outbox_create('replies')});
	$duo->direct('eu', 'replies', 'replies', 'us', 'back');
	$duo->start_relays;
	$duo->sql('us', q{SELECT tide.outbox_publish('orders', 'o', '{}')});
	$duo->sql('eu', q{SELECT tide.outbox_publish('replies', 'o', '{}')});
	ok(defined $duo->wait_count('eu', 'orders', 1), '... with which events go over NATS');
	ok(defined $duo->wait_count('us', 'back', 1), '... and directly');
	ok(defined $duo->wait_value('us', 'SELECT count(*) FROM tide.orders_outbox', 0, 30), '... and house is kept');
	denied('relay', q{SELECT tide.relay_set_outbox('x', 'orders', '{"sink_type": "stdout"}')}, 'configuring pipelines');
	denied('relay', q{SELECT tide.outbox_publish('orders', 'o', '{}')}, 'publishing');
	denied('relay', q{INSERT INTO tide.back_inbox (event_id) VALUES ('forged')}, 'writing into an inbox');
	denied('relay', q{UPDATE tide.pipeline SET config = '{}'}, 'changing the catalog');
	denied('relay', q{SELECT tide.outbox_drop('orders')}, 'dropping an outbox');
	return;
}

sub test_publishers
{
	$duo->sql('us', q{CREATE ROLE app LOGIN IN ROLE tide_publisher; CREATE ROLE shop LOGIN; CREATE ROLE other LOGIN});
	$duo->sql('us', q{SELECT tide.outbox_create('shop'), tide.outbox_grant_publish('shop', 'shop')});
	allowed('app', q{SELECT tide.outbox_publish('orders', 'o', '{}')}, 'a publisher publishes');
	allowed('app', q{SELECT tide.outbox_publish('shop', 'o', '{}')}, '... to every outbox');
	denied('app', q{SELECT * FROM tide.orders_outbox}, 'reading what others published');
	denied('app', q{SELECT tide.outbox_create('mine')}, 'creating an outbox');
	denied('app', q{SELECT tide.outbox_disable('orders')}, 'disabling one');
	denied('app', q{SELECT * FROM tide.outbox_fetch('p', 1, 'orders', NULL, NULL, NULL, 10, 10)}, 'fetching');
	denied('app', q{SELECT tide.relay_poll()}, 'what relays do');
	denied('app', q{SELECT tide.inbox_claim('back')}, 'claiming from an inbox');
	denied('app', q{SELECT tide.dead_letter_discard(1)}, 'discarding dead letters');
	denied('app', q{INSERT INTO tide.outbox_1_0 SELECT * FROM tide.outbox_1_0}, 'writing into a segment');
	denied('app', q{INSERT INTO tide.orders_outbox (event_id) VALUES ('x')}, 'inserting through the view')
	  if $duo->error_of('us', q{INSERT INTO tide.orders_outbox (event_id) VALUES ('x')}, 'app') =~ /42501/;
	isnt($duo->error_of('us', q{INSERT INTO tide.orders_outbox (event_id) VALUES ('x')}, 'app'), '',
		'app: the view itself takes no rows');

	allowed('shop', q{SELECT tide.outbox_publish('shop', 'o', '{}')}, 'a grant for one outbox');
	denied('shop', q{SELECT tide.outbox_publish('orders', 'o', '{}')}, '... is for that one');
	like($duo->error_of('us', q{SELECT tide.outbox_publish('orders', 'o', '{}')}, 'shop'),
		qr/HINT:  .*outbox_grant_publish\('orders', 'shop'\)/, '... and the hint says how to get the other');
	allowed('shop', q{SELECT tide.outbox_publish('shop', '{}'::jsonb, '{}'::jsonb)}, 'the older call form, too');
	denied('other', q{SELECT tide.outbox_publish('shop', 'o', '{}')}, 'no grant');
	$duo->sql('us', q{SELECT tide.outbox_revoke_publish('shop', 'shop')});
	denied('shop', q{SELECT tide.outbox_publish('shop', 'o', '{}')}, 'revoked');

	denied('app', q{SET ROLE app; RESET ROLE; SELECT tide.outbox_create('mine')}, 'SET ROLE gives nothing');
	$duo->sql('us', q{GRANT other TO app});
	denied('app', q{SET ROLE other; SELECT tide.outbox_publish('orders', 'o', '{}')}, 'a lesser role by SET ROLE is a lesser role');
	$duo->sql('us', q{CREATE ROLE boss LOGIN NOINHERIT IN ROLE tide_publisher});
	denied('boss', q{SELECT tide.outbox_publish('orders', 'o', '{}')}, 'a role that does not inherit');
	allowed('boss', q{SET ROLE tide_publisher; SELECT tide.outbox_publish('orders', 'o', '{}')}, '... may by SET ROLE');
	return;
}

sub test_readers
{
	$duo->sql('us', q{CREATE ROLE viewer LOGIN IN ROLE tide_reader});
	allowed('viewer', $_, $_) for 'SELECT count(*) FROM tide.pipelines', 'SELECT count(*) FROM tide.dead_letters',
	  'SELECT count(*) FROM tide.back_inbox', 'SELECT count(*) FROM tide.orders_outbox', q{SELECT tide.region_name()},
	  q{SELECT * FROM tide.inbox_status()}, q{SELECT tide.outbox_status('orders')};
	denied('viewer', $_, $_) for q{SELECT tide.outbox_publish('orders', 'o', '{}')}, q{SELECT tide.inbox_claim('back')},
	  q{SELECT tide.inbox_mark_processed('back', 'x')}, q{DELETE FROM tide.back_inbox}, q{SELECT tide.relay_disable('orders-out')},
	  q{SELECT tide.dead_letter_retry(1)}, q{SELECT tide.maintain()}, q{SELECT tide.relay_acquire('orders-out', 'me')};
	return;
}

# A role that was granted nothing; with USAGE on the schema by mistake, still nothing.
sub test_public
{
	$duo->sql('us', q{CREATE ROLE nobody LOGIN});
	for my $when ('nothing granted', 'USAGE on the schema')
	{
		$duo->sql('us', q{GRANT USAGE ON SCHEMA tide TO nobody}) if $when =~ /USAGE/;
		is($duo->sql('us', q{SELECT string_agg(p.oid::regprocedure::text, ', ') FROM pg_proc p
				WHERE pronamespace = 'tide'::regnamespace AND p.proname !~ '^(stamp_(cmp|lt|le|eq|ne|ge|gt)|_stamp_row|_scope_row|_durability_note)$' AND has_function_privilege('nobody', p.oid, 'EXECUTE')}),
			'', "nobody, $when: may call no function but those that a column of stamps needs");
		is($duo->sql('us', q{SELECT string_agg(c.oid::regclass::text, ', ') FROM pg_class c
				WHERE relnamespace = 'tide'::regnamespace AND relkind IN ('r', 'v', 'm', 'p', 'f')
				AND has_table_privilege('nobody', c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')}),
			'', "nobody, $when: may touch no table");
		is($duo->sql('us', q{SELECT string_agg(seqrelid::regclass::text, ', ') FROM pg_sequence
				WHERE seqrelid::regclass::text LIKE 'tide.%' AND has_sequence_privilege('nobody', seqrelid, 'USAGE, SELECT, UPDATE')}),
			'', "nobody, $when: nor a sequence");
		denied('nobody', $_, $_) for q{SELECT tide.outbox_publish('orders', 'o', '{}')}, q{SELECT * FROM tide.pipelines},
		  q{SELECT tide.region_name()}, q{CREATE TABLE tide.x (a int)};
	}
	$duo->sql('us', q{REVOKE USAGE ON SCHEMA tide FROM nobody});
	return;
}

# Every SECURITY DEFINER function has a search_path nobody else can put anything into.
sub test_definers
{
	is($duo->sql('us', q{SELECT string_agg(p.oid::regprocedure::text, ', ') FROM pg_proc p
			WHERE pronamespace = 'tide'::regnamespace AND prosecdef
			AND NOT coalesce('search_path=pg_catalog, pg_temp' = ANY (proconfig), false)}),
		'', 'all SECURITY DEFINER functions fix their search_path');
	return;
}

# A database whose default search_path begins with somebody's schema full of traps.
sub test_search_path
{
	$duo->sql('us', q{
		CREATE ROLE mallory LOGIN; CREATE SCHEMA evil AUTHORIZATION mallory;
		CREATE TABLE evil.caught (what text, who text); GRANT ALL ON evil.caught TO PUBLIC;
		GRANT USAGE ON SCHEMA evil TO PUBLIC;
		ALTER DATABASE us SET search_path = evil, pg_catalog, public});
	my $trap = q{LANGUAGE plpgsql SECURITY INVOKER AS $$ BEGIN INSERT INTO evil.caught VALUES (%s, current_user); RETURN %s; END $$};
	my %traps = (
		q{format(text, VARIADIC "any")}         => undef,
		q{now() RETURNS timestamptz}            => q{pg_catalog.now()},
		q{clock_timestamp() RETURNS timestamptz} => q{pg_catalog.clock_timestamp()},
		q{current_setting(a text) RETURNS text} => q{pg_catalog.current_setting(a)},
		q{coalesce_(a text) RETURNS text}       => q{a},
		q{cardinality(a text[]) RETURNS int}    => q{pg_catalog.cardinality(a)},
		q{pg_backend_pid() RETURNS int}         => q{pg_catalog.pg_backend_pid()},
		q{pg_try_advisory_lock(a int, b int) RETURNS bool} => q{pg_catalog.pg_try_advisory_lock(a, b)},
		q{nextval(a regclass) RETURNS bigint}   => q{pg_catalog.nextval(a)},
		q{texteq_(a text, b text) RETURNS bool} => q{a OPERATOR(pg_catalog.=) b});
	for my $signature (grep { defined $traps{$_} } sort keys %traps)
	{
		(my $name = $signature) =~ s/\(.*//;
		$duo->sql('us', "SET ROLE mallory; CREATE FUNCTION evil.$signature " . sprintf $trap, "'$name'", $traps{$signature});
	}
	$duo->sql('us', q{SET ROLE mallory; CREATE OPERATOR evil.= (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.texteq_)});
	$duo->sql('us', q{SET ROLE mallory; CREATE TABLE evil.pg_locks (locktype text, classid oid, objid oid, objsubid int, pid int, granted bool, database oid);
		CREATE TABLE evil.pg_stat_activity (pid int, state_change timestamptz, application_name text)});
	$duo->relay('us')->stop;
	$duo->start_relay('us');
	my $before = $duo->count('eu', 'orders');
	$duo->node->psql('us', q{SELECT tide.outbox_publish('orders', 'o', '{}')}, extra_params => [ '-U', 'app' ]);
	ok(defined $duo->wait_count('eu', 'orders', $before + 1), 'a hostile search_path: events go on');
	$duo->sql('eu', q{SELECT tide.outbox_publish('replies', 'o', '{}')});
	ok(defined $duo->wait_count('us', 'back', 2), '... both ways');
	$duo->node->psql('us', 'SELECT * FROM tide.pipelines', extra_params => [ '-U', 'viewer' ]);
	`$ENV{TIDE_TOP}/build/pg_tide $_ -d "${\$duo->conninfo('us')}"` for qw(status doctor);
	is($duo->sql('us', q{SELECT string_agg(DISTINCT what || ' as ' || who, ', ') FROM evil.caught}), '', '... and no trap was stepped on');
	$duo->sql('us', 'ALTER DATABASE us RESET search_path');
	return;
}

# A handler acts as whoever registered it, whatever it tries.
sub test_handlers
{
	$duo->sql('us', q{
		CREATE ROLE author LOGIN IN ROLE tide_admin; CREATE SCHEMA author AUTHORIZATION author;
		CREATE TABLE public.treasure (a int);
		CREATE TABLE author.tried (what text, outcome text, who text); ALTER TABLE author.tried OWNER TO author});
	my $try = join '', map { sprintf q{
		BEGIN EXECUTE %1$s; INSERT INTO author.tried VALUES (%1$s, 'worked', current_user);
		EXCEPTION WHEN OTHERS THEN INSERT INTO author.tried VALUES (%1$s, sqlstate, current_user); END;},
		  PgTide::Duo::literal($_) } 'RESET ROLE', 'SET ROLE relay', 'SET ROLE tide_relay', 'SET LOCAL ROLE NONE',
	  'RESET SESSION AUTHORIZATION', 'SET SESSION AUTHORIZATION tide', 'INSERT INTO public.treasure VALUES (1)',
	  q{SELECT tide.relay_acquire('orders-out', 'author')}, q{UPDATE tide.pipeline SET enabled = false},
	  q{DELETE FROM tide.inbox}, q{ALTER TABLE tide.back_inbox OWNER TO author}, q{SELECT set_config('role', 'relay', false)},
	  q{CREATE TABLE tide.mine (a int)}, q{COMMIT}, q{SELECT pg_read_file('PG_VERSION')};
	$duo->sql('us', qq{SET ROLE author; CREATE FUNCTION author.handle(payload jsonb) RETURNS void LANGUAGE plpgsql AS \$\$
		BEGIN INSERT INTO author.tried VALUES ('identity', 'worked', current_user); $try
		SET search_path = evil; END \$\$;
		SELECT tide.inbox_set_handler('back', 'author.handle(jsonb)')});
	my $before = $duo->count('us', 'back');
	ok(defined $duo->wait_value('us', 'SELECT count(*) FROM tide.back_inbox WHERE processed_at IS NOT NULL', $before, 30),
		'the handler ran');
	is($duo->sql('us', q{SELECT string_agg(DISTINCT who, ', ') FROM author.tried}), 'author', '... as who registered it');
	is($duo->sql('us', q{SELECT string_agg(DISTINCT what || ': ' || outcome, '; ') FROM author.tried
			WHERE outcome = 'worked' AND what <> 'identity'}), '', '... and whatever else it tried did not work');
	note $duo->sql('us', q{SELECT DISTINCT what, outcome FROM author.tried ORDER BY 1});
	is($duo->sql('us', 'SELECT count(*) FROM public.treasure'), 0, '... nothing was taken');
	$duo->sql('eu', q{SELECT tide.outbox_publish('replies', 'o', '{}')});
	ok(defined $duo->wait_value('us', 'SELECT count(*) FROM tide.back_inbox WHERE processed_at IS NOT NULL', $before + 1, 30),
		'the relay goes on with the next event');
	is($duo->sql('us', q{SELECT string_agg(DISTINCT usename, ', ') FROM pg_stat_activity
			WHERE datname = 'us' AND backend_type = 'client backend' AND pid <> pg_backend_pid()}),
		'relay', '... in its own name');

	# Without the right to the handler, its registrar can't have it run.
	$duo->sql('us', q{CREATE FUNCTION public.secret(jsonb) RETURNS void LANGUAGE sql AS ''; REVOKE ALL ON FUNCTION public.secret(jsonb) FROM PUBLIC});
	denied('author', q{SELECT tide.inbox_set_handler('back', 'public.secret(jsonb)')}, 'registering a function one may not call');
	denied('viewer', q{SELECT tide.inbox_set_handler('back', 'author.handle(jsonb)')}, 'registering without being an admin');
	return;
}

test_relay_role();
test_publishers();
test_readers();
test_public();
test_definers();
test_search_path();
test_handlers();
is_deeply($duo->stop_relays, { us => 0, eu => 0 }, 'both relays end with status 0');
done_testing();
